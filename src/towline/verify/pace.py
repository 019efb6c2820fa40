"""How fast a loaded version answers on this machine, without a server: one row at a time, and as many at once as it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from towline.verify.contract import Runner

WARM_RUNS = 5
MIN_RUNS = 20
BUDGET_S = 2.0
# Rounds of turns when two versions are compared, so that a machine that slows down slows both.
TURNS = 10
# Where the distribution of times is told: every 2.5 %, and its tail.
CDF_SHARES = (*(part / 40 for part in range(40)), 0.99, 1.0)


@dataclass(frozen=True)
class Pace:
    """Milliseconds of one run of one row (link included), and rows per second where many go into a run.

    `cdf` has points (milliseconds of one row, share of runs that were no slower).
    `turns` are the seconds of a run of many rows, turn by turn, where several versions were measured side by side.
    """

    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    rows_per_s: float
    turns: tuple[float, ...] = ()
    rows: int = 1
    cdf: tuple[tuple[float, float], ...] = ()

    def figures(self) -> dict[str, float]:
        return {"p50_ms": self.p50_ms, "p90_ms": self.p90_ms, "p99_ms": self.p99_ms, "rows_per_s": self.rows_per_s}


Inputs = Mapping[str, np.ndarray]


def pace(runner: Runner, one_row: Inputs, many: Inputs, *, budget_s: float = BUDGET_S) -> Pace:
    """Measure one version. `many` holds as many rows as a run may."""
    for _ in range(WARM_RUNS):
        runner.run(one_row)
    alone_s = _timed(runner, one_row, budget_s / 2, MIN_RUNS)
    batch_s = _timed(runner, many, budget_s / 2, 3)
    return _pace(alone_s, batch_s, len(next(iter(many.values()))))


def paces(runners: Sequence[Runner], one_row: Sequence[Inputs], many: Sequence[Inputs], *, budget_s: float = BUDGET_S) -> tuple[Pace, ...]:
    """Measure several in one run, turn by turn, in changing order: only ratios of what ran side by side mean anything."""
    alone: list[list[float]] = [[] for _ in runners]
    batch: list[list[float]] = [[] for _ in runners]
    turns: list[list[float]] = [[] for _ in runners]
    for runner, inputs in zip(runners, one_row, strict=True):
        for _ in range(WARM_RUNS):
            runner.run(inputs)
    for turn in range(TURNS):
        order = range(len(runners)) if turn % 2 == 0 else reversed(range(len(runners)))
        for place in order:
            share_s = budget_s / TURNS / 2
            alone[place] += _timed(runners[place], one_row[place], share_s, max(1, MIN_RUNS // TURNS))
            taken_s = _timed(runners[place], many[place], share_s, 1)
            batch[place] += taken_s
            turns[place].append(float(np.median(taken_s)))
    return tuple(
        replace(_pace(alone[place], batch[place], len(next(iter(many[place].values())))), turns=tuple(turns[place]))
        for place in range(len(runners))
    )


def throughput_ratios(first: Pace, second: Pace) -> tuple[float, float]:
    """How many times as many rows per second the second answers: the median over the turns, and what three turns in four reach.

    On a shared machine single turns are off by a third; what a neighbour does to one side in a turn it seldom does in most.
    """
    ratios = np.array(first.turns) / np.array(second.turns) * (second.rows / first.rows)
    middle, sure = np.percentile(ratios, [50, 25])
    return float(middle), float(sure)


def _timed(runner: Runner, inputs: Inputs, budget_s: float, least: int) -> list[float]:
    taken_s: list[float] = []
    until_s = time.perf_counter() + budget_s
    while len(taken_s) < least or time.perf_counter() < until_s:
        began_s = time.perf_counter()
        runner.run(inputs)
        taken_s.append(time.perf_counter() - began_s)
    return taken_s


def _pace(alone_s: Sequence[float], batch_s: Sequence[float], rows: int) -> Pace:
    p50, p90, p99 = np.percentile(np.array(alone_s) * 1000, [50, 90, 99])
    return Pace(len(alone_s), float(p50), float(p90), float(p99), rows / float(np.median(batch_s)), rows=rows, cdf=_cdf(alone_s))


def _cdf(taken_s: Sequence[float]) -> tuple[tuple[float, float], ...]:
    ms = np.percentile(np.array(taken_s) * 1000, np.array(CDF_SHARES) * 100)
    return tuple(zip(map(float, ms), CDF_SHARES, strict=True))
