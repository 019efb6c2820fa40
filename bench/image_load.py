"""MobileNetV2 with a 600 KB binary tensor at 8 clients: how much of what ONNX Runtime gives on all cores is left behind HTTP, and how
much a bare server would leave with the same load generator beside it."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import contender
import processes
import raw
from against.bare_images.peer import PEER as BARE
from against.towline.peer import PEER as TOWLINE
from models import Model

CLIENTS = 8


@dataclass(frozen=True)
class ImageFigures:
    """Ratios are Towline's to a raw `session.run` loop with a thread per core in the same round, or to the bare server where they are
    called so; CPU in microseconds per request."""

    rate: float
    rate_low: float
    rate_high: float
    cpu: float
    cpu_low: float
    cpu_high: float
    requests_per_s: float
    raw_per_s: float
    cpu_us: float
    raw_cpu_us: float
    p50_us: float
    p99_us: float
    failed: int
    bare_per_s: float = 0.0
    bare_cpu_us: float = 0.0
    rate_of_bare: float = 0.0
    cpu_of_bare: float = 0.0


def measure(model: Model, folder: Path, rounds: int, seconds: int) -> ImageFigures:
    """Server and load share all cores: the load generator's share is part of what is asked of the server."""
    cores = processes.every_core()
    ours, bare, floor = [], [], []
    own = Path(sys.executable)
    with (
        contender.started(TOWLINE, model, own, folder / "image", cores=cores) as one,
        contender.started(BARE, model, own, folder / "bare-image", cores=cores) as other,
    ):
        one.drive(clients=CLIENTS, seconds=1, cores=cores)
        other.drive(clients=CLIENTS, seconds=1, cores=cores)
        for number in range(rounds):
            floor.append(raw.loop(model, seconds, cores))
            ours.append(one.drive(clients=CLIENTS, seconds=seconds, cores=cores))
            bare.append(other.drive(clients=CLIENTS, seconds=seconds, cores=cores))
            say = f"{ours[-1].requests_per_s:.1f} requests/s, bare {bare[-1].requests_per_s:.1f}, raw {floor[-1].runs_per_s:.1f} runs/s"
            print(f"  round {number + 1}  {model.name}  {say}", file=sys.stderr)
    rates = [mine.requests_per_s / theirs.runs_per_s for mine, theirs in zip(ours, floor, strict=True)]
    costs = [mine.cpu_us / theirs.cpu_us for mine, theirs in zip(ours, floor, strict=True)]
    return ImageFigures(
        *(statistics.median(rates), min(rates), max(rates)),
        *(statistics.median(costs), min(costs), max(costs)),
        requests_per_s=statistics.median(mine.requests_per_s for mine in ours),
        raw_per_s=statistics.median(theirs.runs_per_s for theirs in floor),
        cpu_us=min(mine.cpu_us for mine in ours),
        raw_cpu_us=min(theirs.cpu_us for theirs in floor),
        p50_us=statistics.median(mine.p50_us for mine in ours),
        p99_us=statistics.median(mine.p99_us for mine in ours),
        failed=sum(mine.failed for mine in ours),
        bare_per_s=statistics.median(its.requests_per_s for its in bare),
        bare_cpu_us=min(its.cpu_us for its in bare),
        rate_of_bare=statistics.median(mine.requests_per_s / its.requests_per_s for mine, its in zip(ours, bare, strict=True)),
        cpu_of_bare=statistics.median(mine.cpu_us / its.cpu_us for mine, its in zip(ours, bare, strict=True)),
    )
