"""Is one version better than another on the same rows? Paired differences with confidence intervals, and McNemar's test. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
# A figure that is counted anew each time is resampled less often; with fewer, nothing is said.
RECOUNTS, LEAST_RECOUNTS = 400, 40
# Resampled row numbers are drawn in blocks of so many bytes.
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Interval:
    """The second minus the first, and the interval that holds it with 95 % confidence."""

    difference: float
    low: float
    high: float


def paired(first: np.ndarray, second: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Of the mean of a figure per row, such as 1 for a right answer: the percentile bootstrap over rows (Efron 1979).

    Both float [rows], of the same rows in the same order.
    """
    each = second.astype(np.float64) - first.astype(np.float64)
    rows = len(each)
    rng = np.random.default_rng(seed)
    # A mean of resampled rows needs only how often each distinct difference was drawn, and there are few where answers are right or wrong.
    values, counts = np.unique(each, return_counts=True)
    if len(values) <= 64:
        drawn = rng.multinomial(rows, counts / rows, size=resamples) @ values / rows
    else:
        block = max(1, _BLOCK_BYTES // (8 * rows))
        drawn = np.concatenate(
            [each[rng.integers(0, rows, (min(block, resamples - done), rows))].mean(axis=1) for done in range(0, resamples, block)]
        )
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return Interval(float(each.mean()), float(low), float(high))


def recounted(
    first: Callable[[np.ndarray], float],
    second: Callable[[np.ndarray], float],
    rows: int,
    *,
    seed: int = 0,
    resamples: int = RECOUNTS,
    most_s: float = math.inf,
) -> Interval:
    """Of a figure that is no mean of rows: both are counted again of the same rows, drawn with replacement.

    `first` and `second` give the figure of the rows at int places. After `most_s` seconds no more are drawn. Without LEAST_RECOUNTS that
    have a figure at all, such as where most draws lack a class, the bounds are NaN.
    """
    began_s, rng = time.monotonic(), np.random.default_rng(seed)
    whole = np.arange(rows)
    difference = second(whole) - first(whole)
    drawn: list[float] = []
    while len(drawn) < resamples and time.monotonic() - began_s < most_s:
        places = rng.integers(0, rows, rows)
        drawn.append(second(places) - first(places))
    told = np.array(drawn)[np.isfinite(drawn)] if drawn else np.empty(0)
    if len(told) < max(min(LEAST_RECOUNTS, resamples), len(drawn) / 2):
        return Interval(difference, math.nan, math.nan)
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(told, [outside, 1 - outside])
    return Interval(difference, float(low), float(high))


@dataclass(frozen=True)
class McNemar:
    """Rows that only one of the two answers right, and how likely so uneven a split is by chance (two-sided, exact)."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """Both bool [rows]. McNemar 1947, with the exact binomial distribution instead of chi-squared, so that few rows are no trouble."""
    only_first, only_second = int((first_right & ~second_right).sum()), int((~first_right & second_right).sum())
    return McNemar(only_first, only_second, _two_sided(min(only_first, only_second), only_first + only_second))


def _two_sided(fewer: int, trials: int) -> float:
    """P(a fair coin falls at least as unevenly), by logarithms: thousands of rows overflow nothing."""
    if not trials:
        return 1.0
    logs = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2) for k in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """The share of rows where both put the same class first. Scores [rows, classes]."""
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())
