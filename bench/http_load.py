"""The tiny model over TF Serving JSON: Towline, the bare server and the peers in turn, CPU per request and latency by wrk."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import models
import processes

HERE = Path(__file__).resolve().parent
READY_TIMEOUT_S = 60.0
TOLERANCE = 1e-4
PATH = f"/v1/models/{models.NAME}:predict"
BARE, TOWLINE, FASTAPI, FLASK = "bare server", "Towline", "FastAPI + uvicorn", "Flask + gunicorn"


@dataclass(frozen=True)
class Sample:
    """One server under one load for a few seconds. Times in microseconds."""

    cpu_us: float
    requests_per_s: float
    p50_us: float
    p99_us: float
    failed: int


@dataclass(frozen=True)
class Figures:
    """All rounds of one server at one number of clients: CPU is the least seen, the others medians; ratios are to the bare server's
    same round."""

    cpu_us: float
    ratio: float
    ratio_low: float
    ratio_high: float
    requests_per_s: float
    p50_us: float
    p99_us: float
    failed: int


@dataclass(frozen=True)
class Contender:
    name: str
    url: str
    pid: int


def measure(folder: Path, peers: Path, clients: list[int], rounds: int, seconds: int) -> tuple[dict[int, dict[str, Figures]], list[float]]:
    """({clients: {server: figures}}, microseconds per run of the raw `session.run` loop, one per round)."""
    model, body = models.write_mlp(folder), models.write_body(folder)
    seen: dict[tuple[int, str], list[Sample]] = {}
    floor_us = []
    with started(folder, peers, model, body) as contenders:
        for number in range(rounds):
            floor_us.append(raw_loop(model, seconds))
            for count in clients:
                # Every second round backwards, so that nobody always runs after the same neighbour.
                for contender in contenders if number % 2 == 0 else contenders[::-1]:
                    sample = drive(contender, body, count, seconds)
                    seen.setdefault((count, contender.name), []).append(sample)
                    say = f"{contender.name:<18} {count:>3} clients  {sample.cpu_us:8.1f} us CPU  {sample.requests_per_s:9,.0f} requests/s"
                    print(f"  round {number + 1}  {say}", file=sys.stderr)
    names = [contender.name for contender in contenders]
    return {count: {name: figures(seen[count, name], seen[count, BARE]) for name in names} for count in clients}, floor_us


def figures(samples: list[Sample], bare: list[Sample]) -> Figures:
    ratios = [mine.cpu_us / theirs.cpu_us for mine, theirs in zip(samples, bare, strict=True)]
    return Figures(
        cpu_us=min(sample.cpu_us for sample in samples),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        requests_per_s=statistics.median(sample.requests_per_s for sample in samples),
        p50_us=statistics.median(sample.p50_us for sample in samples),
        p99_us=statistics.median(sample.p99_us for sample in samples),
        failed=sum(sample.failed for sample in samples),
    )


@contextmanager
def started(folder: Path, peers: Path, model: Path, body: Path) -> Iterator[list[Contender]]:
    """Every server, started on the same core and found to answer rightly."""
    python = str(peers / "bin" / "python")
    towline = str(Path(sys.executable).with_name("towline"))

    def commands(port: str) -> dict[str, list[str]]:
        return {
            BARE: [sys.executable, str(HERE / "against" / "bare_server.py"), port, str(model)],
            TOWLINE: [towline, "serve", str(model), "--home", str(folder / "home"), "--port", port, "--grpc-port", "0"],
            FASTAPI: [python, "-m", "uvicorn", "fastapi_app:app", "--port", port, "--log-level", "warning", "--no-access-log"],
            FLASK: [python, "-m", "gunicorn", "flask_app:app", "-w", "1", "--threads", "32", "-b", f"127.0.0.1:{port}"],
        }

    core, _ = processes.cores()
    environment = {"MODEL": str(model), "PYTHONPATH": str(HERE / "against")}
    with ExitStack() as stack:
        contenders = []
        for name in commands("0"):
            port = processes.free_port()
            log = folder / f"{name.split()[0].lower()}.log"
            running = processes.running(commands(str(port))[name], log=log, environment=environment, core=core)
            contender = Contender(name, f"http://127.0.0.1:{port}{PATH}", stack.enter_context(running).pid)
            wait_for_right_answer(contender, body, models.right_answer(model), log)
            contenders.append(contender)
        yield contenders


def wait_for_right_answer(contender: Contender, body: Path, right: list[float], log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    problem = ""
    while time.monotonic() < deadline_s:
        problem = wrongness(contender.url, body.read_bytes(), right)
        if not problem:
            return
        time.sleep(0.1)
    raise SystemExit(f"{contender.name} gave no right answer within {READY_TIMEOUT_S:.0f} s: {problem}\n{log.read_text()[-2000:]}")


def wrongness(url: str, body: bytes, right: list[float]) -> str:
    """What is wrong with a server's answer; empty when nothing is."""
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            (answer,) = json.loads(response.read())["predictions"]
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    if len(answer) != len(right) or any(abs(mine - theirs) > TOLERANCE for mine, theirs in zip(answer, right, strict=True)):
        return f"it answered {answer}, expected {right}"
    return ""


def drive(contender: Contender, body: Path, clients: int, seconds: int) -> Sample:
    """wrk against one server. Only requests that were answered with a 2xx count."""
    _, core = processes.cores()
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "post.lua")]
    # No Content-Type from wrk means FastAPI refuses the body; the header is the same for everyone.
    command += ["-H", "Content-Type: application/json", contender.url]
    before_us = processes.cpu_us(contender.pid)
    done = subprocess.run(
        command,
        env={**os.environ, "BODY": str(body)},
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    used_us = processes.cpu_us(contender.pid) - before_us
    told = json.loads(done.stdout.strip().splitlines()[-1])
    answered = max(told["requests"] - told["failed"], 1)
    return Sample(used_us / answered, answered / told["duration_us"] * 1e6, told["p50_us"], told["p99_us"], told["failed"])


def raw_loop(model: Path, seconds: int) -> float:
    core, _ = processes.cores()
    command = [sys.executable, str(HERE / "against" / "raw_loop.py"), str(model), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, core))
    return float(done.stdout)
