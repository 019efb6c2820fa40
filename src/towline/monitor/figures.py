"""A few numbers for people out of the counters: how many, how many failed, how long. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from towline.monitor.counters import Histogram, RequestMetrics

_GOOD = frozenset({"OK", "200"})


@dataclass(frozen=True)
class Figures:
    """Of one version, over all protocols, since the start. Times in milliseconds, None before the first request."""

    requests: int
    errors: int
    inflight: int
    p50_ms: float | None
    p99_ms: float | None


def figures(counters: Iterable[RequestMetrics]) -> Figures:
    found = list(counters)
    codes = [(code, count) for one in found for code, count in one.codes.items()]
    requests = sum(count for _, count in codes)
    durations = _sum([one.durations for one in found])
    return Figures(
        requests,
        requests - sum(count for code, count in codes if code in _GOOD),
        sum(one.inflight for one in found),
        _ms(quantile(durations, 0.5)),
        _ms(quantile(durations, 0.99)),
    )


def quantile(histogram: Histogram | None, share: float) -> float | None:
    """The value below which `share` of the observations lie, by a straight line within its bucket, as Prometheus does; None for none.

    What lies above the last bound is told as that bound.
    """
    total = sum(histogram.counts) if histogram is not None else 0
    if histogram is None or not total:
        return None
    wanted, seen, low = share * total, 0, 0.0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        if count and seen + count >= wanted:
            return low + (bound - low) * (wanted - seen) / count
        seen, low = seen + count, bound
    return histogram.bounds[-1]


def _sum(histograms: list[Histogram]) -> Histogram | None:
    if not histograms:
        return None
    total = Histogram(histograms[0].bounds)
    for one in histograms:
        total.add(one)
    return total


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
