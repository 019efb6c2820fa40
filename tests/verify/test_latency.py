"""Percentiles, steadiness and the figures of one load, by tables."""

from __future__ import annotations

import math
from array import array

import numpy as np
import pytest

from towline.verify.latency.levels import BUSY_LIMIT, Level, level_of, percentiles, steadiness, with_unfinished
from towline.verify.load.job import Window

MS = 1_000_000


def window(
    latencies_ms: list[float], *, seconds: float = 1.0, at_s: float = 0.0, waiting_ms: list[float] | None = None, **more: object
) -> Window:
    latencies, waiting = (array("q", (int(one * MS) for one in part)) for part in (latencies_ms, waiting_ms or []))
    return Window(at_s, at_s + seconds, latencies, waiting, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        (range(1, 101), 50.0, 50),
        (range(1, 101), 99.0, 99),
        (range(1, 101), 99.9, 100),
        (range(1, 101), 100.0, 100),
        ([7], 50.0, 7),
        ([1, 1000], 50.0, 1),
        ([1, 1000], 90.0, 1000),
        ([3, 1, 2], 34.0, 2),
    ],
)
def test_a_percentile_is_a_latency_that_was_seen(values: list[int], percent: float, expected: int) -> None:
    assert percentiles(np.array(list(values)), (percent,)) == {percent: expected}


def test_percentiles_of_nothing_are_not_known() -> None:
    assert math.isnan(percentiles(np.array([]), (50.0,))[50.0])


@pytest.mark.parametrize(
    ("windows", "is_steady"),
    [
        ([[1.0] * 100] * 3, True),
        ([[1.0] * 100] * 2, False),
        ([[9.0] * 5, [1.0] * 100, [1.0] * 105, [1.0] * 95], True),
        # The throughput differs.
        ([[1.0] * 100, [1.0] * 100, [1.0] * 150], False),
        # The 95th percentile differs, at the same throughput and median.
        ([[1.0] * 100, [1.0] * 100, [1.0] * 90 + [2.0] * 10], False),
        ([[1.0] * 100, [1.0] * 100, []], False),
    ],
)
def test_a_load_is_steady_when_its_last_three_windows_agree(windows: list[list[float]], is_steady: bool) -> None:
    assert steadiness([window(latencies) for latencies in windows], 10.0).is_steady is is_steady


def test_how_far_windows_differ_is_told() -> None:
    found = steadiness([window([1.0] * count) for count in (100, 100, 130)], 10.0)

    assert found.spread_percent == pytest.approx(100 * 20 / 110)
    assert steadiness([window([1.0] * count) for count in (100, 100, 130)], 20.0).is_steady


def level(windows: list[Window], *, is_open: bool = False) -> Level:
    return level_of(8.0, windows, is_open=is_open, steadiness_percent=10.0)


def test_the_figures_of_a_load_are_those_of_its_last_three_windows() -> None:
    found = level([window([99.0] * 10), *(window([1.0] * 99 + [5.0], at_s=at_s, cpu_s=0.01) for at_s in (1.0, 2.0, 3.0))])

    assert (found.answered, found.seconds, found.requests_per_s, found.windows) == (300, 3.0, 100.0, 4)
    assert (found.percentiles_ms[50.0], found.p99_ms, found.max_ms) == (1.0, 1.0, 5.0)
    assert found.mean_ms == pytest.approx(1.04)
    assert found.client_cpu_us == pytest.approx(100.0)
    assert found.is_steady


def test_failed_requests_are_in_no_latency_and_no_throughput() -> None:
    found = level([window([1.0] * 50, errors={"HTTP 503": 40, "timeout": 1})])

    assert (found.answered, found.failed, found.errors) == (50, 41, {"HTTP 503": 40, "timeout": 1})
    assert found.requests_per_s == 50.0


def test_a_load_without_an_answer_has_no_figures_and_no_crash() -> None:
    found = level([window([], errors={"timeout": 3})] * 3)

    assert (found.answered, found.failed, found.is_steady, found.cdf) == (0, 9, False, ())
    assert math.isnan(found.p99_ms)


def test_requests_that_still_wait_count_in_an_open_loop_with_the_age_they_had() -> None:
    """A server that has stopped answers nobody: without them its figures would be those of the time before."""
    stuck = [window([1.0] * 100), window([1.0] * 100), window([1.0] * 50, waiting_ms=[0.2, *([900.0] * 50)])]

    assert level(stuck, is_open=True).max_ms == 900.0
    assert level(stuck, is_open=True).p99_ms == 900.0
    assert level(stuck, is_open=False).max_ms == 1.0
    assert level(stuck).unfinished == 51


def test_requests_that_have_only_begun_say_nothing() -> None:
    assert list(with_unfinished(np.array([10, 20, 30]), np.array([1, 19, 20, 25]))) == [10, 20, 30, 25]
    assert list(with_unfinished(np.array([], dtype=np.int64), np.array([5]))) == [5]


@pytest.mark.parametrize(("busiest", "is_bound"), [(BUSY_LIMIT - 0.01, False), (BUSY_LIMIT, True), (1.0, True)])
def test_a_generator_without_processor_time_left_is_said_to_be_the_limit(busiest: float, is_bound: bool) -> None:
    assert level([window([1.0], busiest=busiest)]).is_generator_bound is is_bound


def test_the_distribution_rises_to_all_requests() -> None:
    points = level([window([float(number) for number in range(1, 1001)])]).cdf

    assert points[0][0] < 20
    assert points[-1] == (1000.0, 1.0)
    assert points == tuple(sorted(points))
    # The tail has points of its own.
    assert sum(share > 0.99 for _, share in points) >= 8
