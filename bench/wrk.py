"""Load over HTTP by wrk, one thread: how long answers took, and what they cost the server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import processes

SCRIPT = Path(__file__).resolve().parent / "post.lua"


@dataclass(frozen=True)
class Sample:
    """One server under one load for a few seconds. Times in microseconds; `failed` counts what got no 2xx."""

    cpu_us: float
    requests_per_s: float
    p50_us: float
    p99_us: float
    failed: int


def drive(
    server: processes.Server, url: str, body: Path, headers: Mapping[str, str], *, clients: int, seconds: int, cores: set[int]
) -> Sample:
    """wrk, pinned to `cores`, against one server. Only requests that were answered with a 2xx count."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT)]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    before_us = processes.cpu_us(server)
    done = subprocess.run(
        [*command, url],
        env={**os.environ, "BODY": str(body)},
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return sample(done.stdout, processes.cpu_us(server) - before_us)


def sample(printed: str, used_us: float) -> Sample:
    """What wrk and post.lua printed, and the processor time it all cost."""
    told = json.loads(printed.strip().splitlines()[-1])
    answered = told["requests"] - told["failed"]
    return Sample(used_us / max(answered, 1), answered / told["duration_us"] * 1e6, told["p50_us"], told["p99_us"], told["failed"])
