"""The knee of a series of loads, by tables."""

from __future__ import annotations

import pytest

from towline.verify.latency.knee import ALL_SLO, BEHIND, KEPT_UP, RISING, SLO, THROUGHPUT, TOO_FEW, Knee, best, knee
from towline.verify.latency.levels import Level

NAN = float("nan")


def level(load: float, requests_per_s: float, p99_ms: float = 1.0, *, is_open: bool = False) -> Level:
    return Level(
        load=load,
        is_open=is_open,
        seconds=3.0,
        answered=int(requests_per_s * 3),
        requests_per_s=requests_per_s,
        mean_ms=p99_ms / 2,
        max_ms=p99_ms,
        percentiles_ms=dict.fromkeys((50.0, 90.0, 95.0, 99.0, 99.9), p99_ms),
        errors={},
        unfinished=0,
        windows=3,
        is_steady=True,
        spread_percent=1.0,
        client_cpu_us=10.0,
        client_busy=0.1,
    )


def closed(*rows: tuple[float, ...]) -> list[Level]:
    return [level(*row) for row in rows]


def offered(*rows: tuple[float, ...]) -> list[Level]:
    return [level(*row, is_open=True) for row in rows]


@pytest.mark.parametrize(
    ("levels", "slo_ms", "expected"),
    [
        (closed((1, 100), (2, 190), (4, 280), (8, 310), (16, 305)), None, Knee(8, THROUGHPUT)),
        (closed((1, 100), (2, 298), (4, 300)), None, Knee(2, THROUGHPUT)),
        # The order they ran in is of no matter.
        (closed((4, 300), (1, 100), (2, 298)), None, Knee(2, THROUGHPUT)),
        (closed((1, 100), (2, 200), (4, 400)), None, Knee(None, RISING)),
        (closed((1, 300), (2, 200), (4, 100)), None, Knee(1, THROUGHPUT)),
        (closed((1, 100)), None, Knee(None, TOO_FEW)),
        ([], None, Knee(None, TOO_FEW)),
        ([], 5.0, Knee(None, TOO_FEW)),
        # The objective comes first, or the throughput does.
        (closed((1, 100, 1), (2, 200, 2), (4, 400, 9)), 5.0, Knee(2, SLO)),
        (closed((1, 100, 1), (2, 300, 2), (4, 301, 3), (8, 302, 9)), 5.0, Knee(2, THROUGHPUT)),
        (closed((1, 100, 1), (2, 300, 2), (4, 301, 3)), 5.0, Knee(2, THROUGHPUT)),
        (closed((1, 100, 6), (2, 200, 7)), 5.0, Knee(None, ALL_SLO)),
        (closed((1, 100, 1), (2, 0, NAN)), 5.0, Knee(1, SLO)),
        (offered((100, 100), (200, 199), (400, 250)), None, Knee(200, BEHIND)),
        (offered((100, 100), (200, 199)), None, Knee(None, KEPT_UP)),
        (offered((100, 50), (200, 60)), None, Knee(None, BEHIND)),
        (offered((100, 100, 1), (200, 200, 8), (400, 400, 9)), 5.0, Knee(100, SLO)),
    ],
)
def test_the_knee_is_where_more_load_stops_paying(levels: list[Level], slo_ms: float | None, expected: Knee) -> None:
    assert knee(levels, slo_ms) == expected


def test_the_best_load_has_the_most_throughput_of_those_that_keep_the_objective() -> None:
    levels = closed((1, 100, 1), (2, 200, 4), (4, 400, 9), (8, 0, NAN))

    assert best(levels, None) == levels[2]
    assert best(levels, 5.0) == levels[1]
    assert best(levels, 0.5) is None


def test_an_open_loop_that_falls_behind_keeps_no_objective() -> None:
    assert best(offered((100, 100, 1), (400, 200, 1)), 5.0).load == 100  # type: ignore[union-attr]
