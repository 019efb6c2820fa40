"""How much faster models are than another: each runs in turn with it, so that whatever slows the machine slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

# One visit lasts about this long, so that a clock's tick is nothing to it.
VISIT_S = 0.05


@dataclass(frozen=True)
class Ratio:
    """How many times faster: the median of the rounds, and what a quarter of them did not reach and another quarter went beyond."""

    median: float
    low: float
    high: float


def session(model: Path) -> ort.InferenceSession:
    """With one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def speeds(base: Path, models: Sequence[Path], feed: Mapping[str, np.ndarray], rounds: int) -> tuple[list[Ratio], list[float]]:
    """How many times faster each of `models` is than `base`, and the median milliseconds of a run: the base's first."""
    sessions = [session(path) for path in (base, *models)]
    runs = [max(1, round(VISIT_S / _once_s(one, feed))) for one in sessions]
    visits = [[_visit_s(one, feed, count) for one, count in zip(sessions, runs, strict=True)] for _ in range(rounds)]
    ratios = [ratio([visit[0] / visit[place] for visit in visits]) for place in range(1, len(sessions))]
    return ratios, [1000 * statistics.median(visit[place] for visit in visits) for place in range(len(sessions))]


def ratio(found: Sequence[float]) -> Ratio:
    low, median, high = statistics.quantiles(found, n=4)
    return Ratio(median, low, high)


def _once_s(one: ort.InferenceSession, feed: Mapping[str, np.ndarray]) -> float:
    one.run(None, feed)
    return _visit_s(one, feed, 1)


def _visit_s(one: ort.InferenceSession, feed: Mapping[str, np.ndarray], count: int) -> float:
    began_s = time.perf_counter()
    for _ in range(count):
        one.run(None, feed)
    return (time.perf_counter() - began_s) / count
