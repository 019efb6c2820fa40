"""What several visits to a server come to. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from wrk import Sample


@dataclass(frozen=True)
class Figures:
    """All rounds of one server at one number of clients: CPU is the least seen, the others medians; ratios are to the floor's same
    round, absent where there was none. Times in microseconds."""

    cpu_us: float
    requests_per_s: float
    p50_us: float
    p99_us: float
    failed: int
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


def figures(samples: Sequence[Sample], floor_us: Sequence[float | None]) -> Figures:
    """`floor_us` is the floor's CPU per request, round by round as the samples are."""
    ratios = [sample.cpu_us / floor for sample, floor in zip(samples, floor_us, strict=True) if floor]
    return Figures(
        cpu_us=min(sample.cpu_us for sample in samples),
        requests_per_s=statistics.median(sample.requests_per_s for sample in samples),
        p50_us=statistics.median(sample.p50_us for sample in samples),
        p99_us=statistics.median(sample.p99_us for sample in samples),
        failed=sum(sample.failed for sample in samples),
        ratio=statistics.median(ratios) if ratios else None,
        ratio_low=min(ratios, default=None),
        ratio_high=max(ratios, default=None),
    )
