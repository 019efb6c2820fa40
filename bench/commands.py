"""What the command line costs: processor time of the cold commands, and the time from `towline serve FILE` to the first answer."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import contender
import models
import processes
from against.towline.peer import PEER as SERVE
from models import Model

TOWLINE = str(Path(sys.executable).with_name("towline"))
MANY_VERSIONS = 10_000
MANY_MODELS = 100
IN_MEMORY = Path("/dev/shm")
RUNS = 7
START_ROUNDS = 10
PLAIN = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(session.run(None, {"x": numpy.ones((1, 10), "float32")})[0])
"""


@dataclass(frozen=True)
class StartTimes:
    """Seconds of wall time; `ratio` is the median of the rounds' ratios."""

    towline_s: float
    plain_s: float
    ratio: float
    ratio_low: float
    ratio_high: float


def cold_commands(model: Model) -> dict[str, float]:
    """Milliseconds of processor time, user and system, of whole processes: the least of RUNS runs each."""
    # In memory where that is possible: publishing 10,000 versions waits for the disk 100,000 times, reading them does not.
    with tempfile.TemporaryDirectory(prefix="towline-bench-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as home:
        return _cold_commands(model.path, Path(home))


def _cold_commands(model: Path, home: Path) -> dict[str, float]:
    subprocess.run([TOWLINE, "import", str(model), "--home", str(home)], check=True, capture_output=True)
    figures = {
        "python_cpu_ms": least_cpu_ms([sys.executable, "-c", "pass"]),
        "help_cpu_ms": least_cpu_ms([TOWLINE, "--help"]),
        "ls_cpu_ms": least_cpu_ms([TOWLINE, "ls", "--home", str(home)]),
        "ps_cpu_ms": least_cpu_ms([TOWLINE, "ps", "--home", str(home)]),
    }
    multiply_versions(home, MANY_VERSIONS)
    figures["ls_10000_cpu_ms"] = least_cpu_ms([TOWLINE, "ls", "--home", str(home)])
    return figures


def multiply_versions(home: Path, count: int) -> None:
    """Publish `count` more versions, through the store itself: each is the mlp with one file that differs."""
    from towline.core.refs import Ref
    from towline.store.sqlite import open_store

    store = open_store(home)
    original = store.version(Ref(models.NAME)).path
    for number in range(count):
        with store.stage() as staged:
            shutil.copytree(original, staged, copy_function=shutil.copyfile, dirs_exist_ok=True)
            (staged / "copy.txt").write_text(str(number))
            store.publish(staged, f"model-{number % MANY_MODELS}", actor="bench")
    store.close()


def least_cpu_ms(command: list[str]) -> float:
    return min(cpu_ms(command) for _ in range(RUNS))


def cpu_ms(command: list[str]) -> float:
    """Processor time of one run, its children included. Raises SystemExit when it fails."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=processes.as_installed()
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}, expected 0.")
    return (usage.ru_utime + usage.ru_stime) * 1e3


def start_to_first_answer(model: Model, folder: Path) -> StartTimes:
    """`towline serve model.onnx` in a new home, and Python importing onnxruntime and running the model, in turn."""
    ours, plain = [], []
    with contender.started(SERVE, model, Path(sys.executable), folder / "start-first", cores=processes.every_core()):
        # Not counted: it may have to compile.
        plain_run_s(model.path)
    for number in range(START_ROUNDS):
        plain.append(plain_run_s(model.path))
        with contender.started(SERVE, model, Path(sys.executable), folder / f"start-{number}", cores=processes.every_core()) as one:
            ours.append(one.start_s)
    ratios = [mine / theirs for mine, theirs in zip(ours, plain, strict=True)]
    return StartTimes(statistics.median(ours), statistics.median(plain), statistics.median(ratios), min(ratios), max(ratios))


def plain_run_s(model: Path) -> float:
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", PLAIN, str(model)], check=True, capture_output=True)
    return time.perf_counter() - started_s
