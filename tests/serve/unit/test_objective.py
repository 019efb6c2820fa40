"""A latency objective: batches shrink while it is missed and grow again while it is held."""

from __future__ import annotations

import random

import pytest

from towline.core.warmup import WarmReport
from towline.serve.lanes import rows_that_pay
from towline.serve.objective import WINDOW_BATCHES, LatencyObjective


def press(objective: LatencyObjective, *, ms_per_row: float, windows: int, seed: int = 1) -> list[int]:
    """Full batches of a model whose runs take so long by the row; the limit after each window."""
    chance = random.Random(seed)
    seen = []
    for _ in range(windows):
        for _ in range(WINDOW_BATCHES):
            rows = objective.max_rows
            objective.observe(rows * ms_per_row / 1000 * chance.uniform(0.9, 1.1), rows)
        seen.append(objective.max_rows)
    return seen


@pytest.mark.parametrize("seed", range(5))
def test_the_limit_settles_where_the_objective_is_held(seed: int) -> None:
    limits = press(LatencyObjective(0.050, most_rows=256), ms_per_row=1.0, windows=60, seed=seed)

    # 50 rows take 50 ms: found from above, and from then on left neither far nor for long.
    assert all(30 <= limit <= 52 for limit in limits[20:])


def test_a_model_that_gets_slower_gets_smaller_batches_and_back() -> None:
    objective = LatencyObjective(0.050, most_rows=64)

    assert press(objective, ms_per_row=0.1, windows=3)[-1] == 64
    assert press(objective, ms_per_row=5.0, windows=20)[-1] <= 10
    assert press(objective, ms_per_row=0.1, windows=40)[-1] == 64


def test_an_objective_that_cannot_be_held_leaves_single_rows() -> None:
    assert press(LatencyObjective(0.001, most_rows=64), ms_per_row=10.0, windows=30)[-1] == 1


def test_an_idle_model_learns_nothing_of_what_it_could_carry() -> None:
    objective = LatencyObjective(0.050, most_rows=64)
    press(objective, ms_per_row=5.0, windows=20)
    small = objective.max_rows

    assert not any(objective.observe(0.001, 1) for _ in range(10 * WINDOW_BATCHES)) or small == 1
    assert objective.max_rows == small


@pytest.mark.parametrize(
    ("curve", "rows"),
    [
        ((), 0),
        (((8, 14.1), (32, 16.3), (128, 25.0)), 0),  # a tiny network gains up to whatever was tried
        (((8, 14.1), (32, 16.3), (128, 65.0)), 32),  # from 32 on, four times the rows cost four times as much
        (((8, 90_000.0), (32, 385_000.0)), 8),  # MobileNetV2 on a CPU
    ],
)
def test_batches_are_as_large_as_pays(curve: tuple[tuple[int, float], ...], rows: int) -> None:
    assert rows_that_pay(curve) == rows


@pytest.mark.parametrize("told", [None, 5, "curve", [[8, "x"]], [[8]], [[0, 1.0]], [[8, -1.0]], [8, 14.1]])
def test_a_curve_that_a_worker_made_up_is_as_good_as_none(told: object) -> None:
    assert WarmReport.from_message({"is_ready": True, "curve": told}).curve == ()


def test_a_curve_travels_from_the_worker_as_it_is() -> None:
    report = WarmReport(True, "", 13.0, 14.1, ((8, 14.1), (32, 16.3)))

    assert WarmReport.from_message({**report.as_message(), "curve": [[8, 14.1], [32, 16.3]]}) == report
