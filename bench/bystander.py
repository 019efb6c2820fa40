"""A model that answers while another of 500 MB is loaded and unloaded beside it: its p99 against the one it has in peace."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import towline
from towline.testing import tiny_models
from towline.testing.server import RunningServer

# Rows of three float32 numbers: 500 MB of weights.
BIG_ROWS = 500_000_000 // 12
# One client that asks a hundred times a second, as long as the other model comes and goes this often.
CYCLES = 8
PAUSE_S = 0.01
PATH, BODY = "/v1/models/bystander:predict", b'{"instances": [[1, 2]]}'


def measure() -> dict[str, float]:
    """The bystander's p99 in milliseconds, quiet and beside the loads, their ratio, and how long one load took (seconds)."""
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as scratch:
        folder = Path(scratch)
        small = tiny_models.write(folder, tiny_models.identity(), "bystander.onnx")
        big = tiny_models.write(folder, tiny_models.embedding(rows=BIG_ROWS), "big.onnx")
        towline.import_model(small, name="bystander", home=folder / "home")
        towline.import_model(big, name="big", home=folder / "home")
        big.unlink()
        with RunningServer("bystander", home=folder / "home", settings={"model_control": "explicit", "keep_versions_s": 0}) as server:
            return _measured(server)


def _measured(server: RunningServer) -> dict[str, float]:
    took_s: list[float] = []

    def come_and_go() -> None:
        began_s = time.monotonic()
        _change(server, "load")
        took_s.append(time.monotonic() - began_s)
        _change(server, "unload")

    asked_while(server, lambda: time.sleep(1.0))
    busy_ms: list[float] = []
    quiet_ms: list[float] = []
    # In turns: a shared machine is slower in one minute than in the next, and p99 of a few hundred answers is a matter of luck.
    for _ in range(CYCLES):
        began_s = time.monotonic()
        busy_ms += asked_while(server, come_and_go)
        as_long = threading.Timer(time.monotonic() - began_s, lambda: None)
        quiet_ms += asked_while(server, as_long.run)
    quiet, busy = (statistics.quantiles(taken, n=100)[98] for taken in (quiet_ms, busy_ms))
    return {
        "bystander_quiet_ms": quiet,
        "bystander_busy_ms": busy,
        "bystander_ratio": busy / quiet,
        "bystander_load_s": statistics.median(took_s),
    }


def _change(server: RunningServer, verb: str) -> None:
    status, answer = server.ask("POST", f"/v2/repository/models/big/{verb}", b"{}", timeout_s=120)
    if status != 200:
        raise RuntimeError(f"big was not {verb}ed: {status} {answer[:200]!r}")


def asked_while(server: RunningServer, work: Callable[[], None]) -> list[float]:
    """How many milliseconds each answer took while `work` went on."""
    worker = threading.Thread(target=work)
    taken_ms: list[float] = []
    connection = HTTPConnection(server.host, server.port, timeout=30)
    worker.start()
    while worker.is_alive():
        began_s = time.perf_counter()
        connection.request("POST", PATH, BODY)
        answer = connection.getresponse()
        if answer.status != 200 or not answer.read():
            raise RuntimeError(f"the bystander was answered {answer.status}")
        taken_ms.append((time.perf_counter() - began_s) * 1000)
        time.sleep(PAUSE_S)
    worker.join()
    connection.close()
    return taken_ms
