"""Where more load stops paying: no more throughput, or a tail longer than promised. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towline.verify.latency.levels import Level

# A load that gives this share of the best throughput gives all of it.
ENOUGH = 0.95
# Of the requests that were due, the share that must be answered for a server to keep up.
KEEPS_UP = 0.95

THROUGHPUT = "more load brings no more throughput"
BEHIND = "beyond it the server no longer keeps up"
SLO = "beyond it p99 breaks the objective"
ALL_SLO = "even the lowest load breaks the objective"
RISING = "throughput still rises at the highest load"
KEPT_UP = "the server keeps up with every load"
TOO_FEW = "one load has no knee"


@dataclass(frozen=True)
class Knee:
    """`load` is that of the last level worth its latency, None when none was found; `why` in words."""

    load: float | None
    why: str


def knee(levels: Sequence[Level], slo_ms: float | None = None) -> Knee:
    """Of levels of the same loop. An objective on the 99th percentile, in milliseconds, may move the knee down, never up."""
    ordered = sorted(levels, key=lambda level: level.load)
    if slo_ms is not None and ordered:
        kept = _until(ordered, [holds(level, slo_ms) for level in ordered])
        if not kept:
            return Knee(None, ALL_SLO)
        if len(kept) < len(ordered):
            within = knee(kept)
            return within if within.load is not None and within.load < kept[-1].load else Knee(kept[-1].load, SLO)
    if len(ordered) < 2:
        return Knee(None, TOO_FEW)
    return _open_knee(ordered) if ordered[0].is_open else _closed_knee(ordered)


def holds(level: Level, slo_ms: float) -> bool:
    """Whether a level keeps an objective: its 99th percentile is known and no longer. An open loop has to be kept up with too."""
    return level.p99_ms <= slo_ms and not (level.is_open and not _keeps_up(level))


def best(levels: Sequence[Level], slo_ms: float | None) -> Level | None:
    """The level with the most throughput, of those that keep the objective."""
    fit = [level for level in levels if level.answered and (slo_ms is None or holds(level, slo_ms))]
    return max(fit, key=lambda level: level.requests_per_s, default=None)


def _closed_knee(ordered: list[Level]) -> Knee:
    top = max(level.requests_per_s for level in ordered)
    first = next(level for level in ordered if level.requests_per_s >= ENOUGH * top)
    return Knee(None, RISING) if first is ordered[-1] else Knee(first.load, THROUGHPUT)


def _open_knee(ordered: list[Level]) -> Knee:
    kept = _until(ordered, [_keeps_up(level) for level in ordered])
    if len(kept) == len(ordered):
        return Knee(None, KEPT_UP)
    return Knee(kept[-1].load if kept else None, BEHIND)


def _keeps_up(level: Level) -> bool:
    return level.requests_per_s >= KEEPS_UP * level.load


def _until(ordered: list[Level], good: list[bool]) -> list[Level]:
    """The levels before the first that is not good."""
    return ordered[: good.index(False)] if False in good else ordered
