"""Main of the front process: python -m towline.app.front CHANNEL_FD LISTENER_FD SETTINGS_JSON FORCE"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from towline.core.config import Settings
from towline.core.manifest import Manifest
from towline.core.process import become, ignore_signals_of_the_terminal, settle_collector
from towline.core.version import check_sealed
from towline.core.warmup import WarmReport, warm
from towline.monitor.metrics import ServingMetrics
from towline.monitor.process import ProcessSample, sample_process
from towline.serve.front import Front, Parts, Process
from towline.serve.lanes import InlineLanes, Run


def main(argv: list[str]) -> None:
    channel_end, listener = socket.socket(fileno=int(argv[0])), socket.socket(fileno=int(argv[1]))
    settings = Settings(**json.loads(argv[2]))
    become("towline-front", parent=os.getppid())
    ignore_signals_of_the_terminal()
    # What uvicorn says of its own start and stop is said better by the supervisor.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    uvloop.run(_serve(settings, listener, channel_end, force=argv[3] == "force"))


async def _serve(settings: Settings, listener: socket.socket, channel_end: socket.socket, *, force: bool) -> None:
    metrics = ServingMetrics()
    inline = (lambda loop: InlineLanes(_load_inline, loop)) if settings.isolation == "none" else None
    front = Front(
        settings, listener, channel_end, Parts(metrics, lambda processes: metrics.render(_samples(processes)), inline), force=force
    )
    settle_collector()
    await front.run()


def _samples(processes: Sequence[Process]) -> list[ProcessSample]:
    samples = [sample_process(one.pid, one.role, model=one.model, version=one.version) for one in processes]
    return [sample for sample in samples if sample is not None]


def _load_inline(folder: Path, digest: str, manifest: Manifest) -> tuple[Run, WarmReport]:
    from towline.core.engine import EngineOptions
    from towline.engines.onnxruntime import OnnxRuntimeEngine

    check_sealed(folder, digest)
    session = OnnxRuntimeEngine().load(folder, manifest, EngineOptions())
    return session.run, warm(session.run, folder, manifest)


if __name__ == "__main__":
    main(sys.argv[1:])
