"""Turn windows of requests into what is reported of one load: throughput, percentiles, errors, who was the limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from towline.verify.latency.server_cost import Cost
from towline.verify.latency.server_time import ServerTime
from towline.verify.load.job import Window, joined

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
# Beyond this share of a window on the processor, or waiting for one, the generator is what is measured.
BUSY_LIMIT = 0.9
# Windows that must agree before their figures count as steady.
STEADY_WINDOWS = 3
_CDF_POINTS = 80


@dataclass(frozen=True)
class Level:
    """What one load gave. `load` is clients in a closed loop, requests a second in an open one. Latencies in milliseconds.

    Requests that failed are in `errors` by kind and in nothing else. `unfinished` ones were under way, or due, at the end; in
    an open loop those older than the median count into the latencies with the age they had, for they took at least that.
    """

    load: float
    is_open: bool
    seconds: float
    answered: int
    requests_per_s: float
    mean_ms: float
    max_ms: float
    percentiles_ms: dict[float, float]
    errors: dict[str, int]
    unfinished: int
    windows: int
    is_steady: bool
    spread_percent: float
    client_cpu_us: float
    client_busy: float
    cdf: tuple[tuple[float, float], ...] = ()
    server_time: ServerTime | None = None
    cost: Cost | None = None

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def is_generator_bound(self) -> bool:
        return self.client_busy >= BUSY_LIMIT

    @property
    def p99_ms(self) -> float:
        return self.percentiles_ms[99.0]


@dataclass(frozen=True)
class Steadiness:
    """Whether the last windows agree, and by how much they differ from their mean at most, in percent."""

    is_steady: bool
    spread_percent: float = field(default=float("inf"))


def percentiles(latencies: np.ndarray, wanted: Sequence[float] = PERCENTILES) -> dict[float, float]:
    """Nearest rank: each is a latency that was seen, and at least so many percent were no longer. NaN of none."""
    if not latencies.size:
        return dict.fromkeys(wanted, float("nan"))
    found = np.percentile(latencies, wanted, method="inverted_cdf")
    return dict(zip(wanted, (float(value) for value in found), strict=True))


def steadiness(windows: Sequence[Window], limit_percent: float) -> Steadiness:
    """Whether the last three windows agree within `limit_percent` of their mean, in requests a second and in the 95th percentile."""
    last = windows[-STEADY_WINDOWS:]
    if len(last) < STEADY_WINDOWS or not all(len(window.latencies_ns) for window in last):
        return Steadiness(False)
    rates = [len(window.latencies_ns) / window.seconds for window in last]
    tails = [percentiles(_array(window), (95.0,))[95.0] for window in last]
    spread = max(_spread_percent(rates), _spread_percent(tails))
    return Steadiness(spread <= limit_percent, spread)


def _spread_percent(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return max(abs(value - mean) for value in values) / mean * 100


def level_of(
    load: float,
    windows: Sequence[Window],
    *,
    is_open: bool,
    steadiness_percent: float,
    server_time: ServerTime | None = None,
    cost: Cost | None = None,
) -> Level:
    """The figures of the last three windows, which follow one another without a gap. `windows` are all that were measured."""
    found = steadiness(windows, steadiness_percent)
    last = joined(list(windows[-STEADY_WINDOWS:]))
    unfinished = np.frombuffer(windows[-1].waiting_ns, np.int64)
    latencies_ms = with_unfinished(_array(last), unfinished if is_open else unfinished[:0]) / 1e6
    answered = len(last.latencies_ns)
    return Level(
        load=load,
        is_open=is_open,
        seconds=last.seconds,
        answered=answered,
        requests_per_s=answered / last.seconds,
        mean_ms=float(latencies_ms.mean()) if latencies_ms.size else float("nan"),
        max_ms=float(latencies_ms.max()) if latencies_ms.size else float("nan"),
        percentiles_ms=percentiles(latencies_ms),
        errors=dict(sorted(last.errors.items())),
        unfinished=len(unfinished),
        windows=len(windows),
        is_steady=found.is_steady,
        spread_percent=found.spread_percent,
        client_cpu_us=last.cpu_s / answered * 1e6 if answered else float("nan"),
        client_busy=last.busiest,
        cdf=_cdf(latencies_ms),
        server_time=server_time,
        cost=cost,
    )


def with_unfinished(latencies: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """The latencies, with the ages of requests that have no answer yet and have waited longer than the median.

    Younger ones would only be noise; older ones left out would hide the very stall that keeps them waiting.
    """
    if not latencies.size:
        return ages.astype(latencies.dtype)
    return np.concatenate([latencies, ages[ages > percentiles(latencies, (50.0,))[50.0]]])


def _array(window: Window) -> np.ndarray:
    return np.frombuffer(window.latencies_ns, np.int64)


def _cdf(latencies_ms: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Points (latency, share of requests no slower) for a chart, closer together towards the tail."""
    if not latencies_ms.size:
        return ()
    ordered = np.sort(latencies_ms)
    shares = 1 - np.geomspace(1.0, max(1 / ordered.size, 1e-5), _CDF_POINTS)
    ranks = np.minimum((shares * ordered.size).astype(int), ordered.size - 1)
    return tuple((float(ordered[rank]), float((rank + 1) / ordered.size)) for rank in sorted(set(ranks.tolist())))
