"""Main of the front process: python -m towline.app.serving.front CHANNEL_FD LISTENER_FD SETTINGS_JSON FORCE"""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from towline.app.serving.inline import load_inline
from towline.core.config import Settings
from towline.core.process import become, ignore_signals_of_the_terminal, settle_collector
from towline.monitor.figures import figures
from towline.monitor.metrics import ServingMetrics
from towline.monitor.process import ProcessSample, sample_process
from towline.secure.keys import FILE_NAME, WatchedRing
from towline.serve.front import Front, Parts, Process
from towline.serve.lanes import InlineLanes


def main(argv: list[str]) -> None:
    channel_end, listener = socket.socket(fileno=int(argv[0])), socket.socket(fileno=int(argv[1]))
    settings = Settings(**json.loads(argv[2]))
    settings = replace(settings, max_connections=min(settings.max_connections, connections_within(_raise_file_limit())))
    become("towline-front", parent=os.getppid())
    ignore_signals_of_the_terminal()
    # What uvicorn says of its own start and stop is said better by the supervisor.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    uvloop.run(_serve(settings, listener, channel_end, force=argv[3] == "force"))


async def _serve(settings: Settings, listener: socket.socket, channel_end: socket.socket, *, force: bool) -> None:
    metrics = ServingMetrics()
    inline = (lambda loop: InlineLanes(load_inline, loop)) if settings.isolation == "none" else None
    ring = WatchedRing(Path(settings.home) / FILE_NAME) if settings.auth != "off" else None
    parts = Parts(
        metrics,
        lambda processes: metrics.render(_samples(processes)),
        inline,
        ring=ring,
        figures=lambda model, number: _figures(metrics, model, number),
    )
    front = Front(settings, listener, channel_end, parts, force=force)
    settle_collector()
    await front.run()


def _figures(metrics: ServingMetrics, model: str, number: int) -> dict[str, Any]:
    found = figures(metrics.requests_of(model, number))
    return {
        "requests": found.requests,
        "errors": found.errors,
        "inflight": found.inflight,
        "p50Ms": found.p50_ms,
        "p99Ms": found.p99_ms,
    }


def connections_within(open_files: int) -> int:
    """How many connections leave descriptors for workers: each takes eight, and a front that has none left cannot replace one."""
    return max(1, open_files - max(44, open_files // 8))


def _raise_file_limit() -> int:
    """Take as many open files as the system lets us; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def _samples(processes: Sequence[Process]) -> list[ProcessSample]:
    samples = [sample_process(one.pid, one.role, model=one.model, version=one.version) for one in processes]
    return [sample for sample in samples if sample is not None]


if __name__ == "__main__":
    main(sys.argv[1:])
