"""The tiny model over Open Inference gRPC: Towline's two servers, and a plain grpc.aio handler as the floor, in turn on one core."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import contender
import http_load
import processes
from against.grpc_aio.peer import PEER as FLOOR
from against.towline.peer import PEER as TOWLINE
from against.towline_native.peer import PEER as NATIVE
from contender import NotMeasured
from figures import Figures
from models import Model
from wrk import Sample


def measure(model: Model, folder: Path, peers: Path, clients: Sequence[int], rounds: int, seconds: int) -> dict[int, dict[str, Figures]]:
    """{clients: {server: figures}}; the native server is absent where it cannot be started."""
    server_core, _ = processes.cores()
    own = Path(sys.executable)
    seen: dict[tuple[int, str], list[Sample]] = {}
    with ExitStack() as stack:
        start = {"model": model, "cores": server_core, "over_grpc": True}
        running = stack.enter_context(http_load.started([(FLOOR, peers), (TOWLINE, own)], folder=folder / "grpc", **start))
        try:
            running = [*running, stack.enter_context(contender.started(NATIVE, python=own, folder=folder / "native", **start))]
        except NotMeasured as error:
            print(f"  {NATIVE.name} is not measured: {error}", file=sys.stderr)
        for number in range(rounds):
            http_load.visit(running, seen, clients, seconds, number)
    return http_load.summary(seen, running, clients, FLOOR.name)
