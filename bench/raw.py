"""Run the floor below every server, the bare `session.run` loop, on cores of our choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from against.peer import HERE
from models import Model


@dataclass(frozen=True)
class RawLoop:
    """Processor microseconds per run, and runs per second of all threads."""

    cpu_us: float
    runs_per_s: float


def loop(model: Model, seconds: int, cores: set[int]) -> RawLoop:
    """One thread per core."""
    command = [sys.executable, str(HERE / "raw_loop.py"), str(model.path), str(seconds), str(len(cores))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    return RawLoop(**json.loads(done.stdout))
