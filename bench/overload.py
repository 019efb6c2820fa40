"""Ten times the load a slow model can bear, for some seconds: how much of its capacity is still answered, and how soon it is over."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import processes
from towline.testing import tiny_models
from towline.testing.arrivals import Arrivals
from towline.testing.server import RunningServer

SECONDS = 8
# The first of them fill the queue.
WARM_S = 2
CLIENTS = 8
CAPACITY_S = 4.0
PATIENCE_MS = 1000
PATH, BODY = "/v1/models/slow:predict", b'{"inputs": [1]}'


def measure() -> dict[str, float]:
    """Goodput as a share of the capacity measured before and after, seconds until the last answer, MiB of the front, p99 of refusals."""
    # Some hundredths of a second a run: few enough requests that making them takes little of the machine.
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as folder:
        model = tiny_models.write(Path(folder), tiny_models.counted_loop(40_000), "slow.onnx")
        everywhere, (servers, loads) = processes.every_core(), processes.cores()
        try:
            # A core for each: a load that shares the server's takes from what is compared with the capacity.
            os.sched_setaffinity(0, servers)
            with RunningServer(model) as server:
                os.sched_setaffinity(0, loads)
                return _measured(server)
        finally:
            os.sched_setaffinity(0, everywhere)


def _measured(server: RunningServer) -> dict[str, float]:
    capacity_per_s = _capacity_per_s(server)
    before = server.rss_bytes(server.front_pid)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nX-Request-Timeout-Ms: {PATIENCE_MS}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    load = Arrivals(server.host, server.port, head.encode() + BODY, 10 * capacity_per_s, SECONDS).run()
    refused_s = [one.took_s for one in load.refused]
    # A shared machine gives more in one moment than in the next.
    around_per_s = (capacity_per_s + _capacity_per_s(server)) / 2
    return {
        "overload_goodput": load.good_per_s(WARM_S, SECONDS) / around_per_s,
        "overload_recovery_s": max(one.at_s for one in load.outcomes) - SECONDS,
        "overload_memory_mib": (server.rss_bytes(server.front_pid) - before) / (1 << 20),
        "overload_refusal_ms": statistics.quantiles(refused_s, n=100)[98] * 1000 if len(refused_s) > 1 else 0.0,
        "overload_lost": float(load.sent - len(load.outcomes)),
    }


def _capacity_per_s(server: RunningServer) -> float:
    """Answers a second to CLIENTS that ask without pause."""
    until_s = time.monotonic() + CAPACITY_S
    counts = [0] * CLIENTS

    def ask(client: int) -> None:
        connection = HTTPConnection(server.host, server.port, timeout=30)
        while time.monotonic() < until_s:
            connection.request("POST", PATH, BODY)
            counts[client] += connection.getresponse().read() != b""
        connection.close()

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began_s)
