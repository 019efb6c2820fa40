"""What two versions make of each class: counts that add up, and an interval that few rows never make sure."""

from __future__ import annotations

import numpy as np
import pytest

from towline.verify.metrics.by_class import class_differences, paired_interval
from towline.verify.metrics.classification import classified

TRUTH = np.array([0] * 100 + [1] * 100 + [2] * 2)


def answered(*wrong: int) -> np.ndarray:
    """Scores that are right but in these rows."""
    scores = np.eye(4)[TRUTH]
    scores[list(wrong)] = np.roll(scores[list(wrong)], 1, axis=1)
    return scores


def differences(first: np.ndarray, second: np.ndarray):  # type: ignore[no-untyped-def]
    right = [one.argmax(axis=1) == TRUTH for one in (first, second)]
    return class_differences([classified(one, TRUTH) for one in (first, second)], right, TRUTH)


def test_rows_won_and_lost_are_the_difference_of_the_recalls():
    first, second = answered(0, 1, 150), answered(1, 2, 3, 4)

    found = {one.place: one for one in differences(first, second)}

    assert (found[0].lost, found[0].won, found[0].support) == (3, 1, 100)
    assert found[0].difference == pytest.approx(-0.02)
    assert found[0].recall == pytest.approx((0.98, 0.96))
    assert found[1].difference == pytest.approx(0.01)
    assert found[1].f1 == pytest.approx((198 / 201, 200 / 204))
    assert 3 not in found, "a class without rows has no recall"


def test_the_class_that_was_lost_the_most_surely_comes_first_and_one_row_is_not_sure():
    found = differences(answered(), answered(*range(15), 200))

    assert [one.place for one in found][:2] == [0, 2]
    assert found[0].high < 0
    assert found[1].difference == pytest.approx(-0.5)
    assert found[1].high > 0, "one row of two may be chance"


@pytest.mark.parametrize(
    ("lost", "won", "rows", "low", "high"),
    [
        # Worked by hand from the formula: (won - lost) / (n + 2) and its reach.
        (10, 2, 100, -0.1460, -0.0108),
        (0, 0, 50, -0.0377, 0.0377),
        (1, 0, 1, -1.0, 0.5101),
    ],
)
def test_the_interval_is_that_of_agresti_and_min(lost: int, won: int, rows: int, low: float, high: float):
    assert paired_interval(lost, won, rows) == pytest.approx((low, high), abs=5e-4)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        cells = rng.multinomial(60, [0.1, 0.04, 0.86])
        low, high = paired_interval(int(cells[0]), int(cells[1]), 60)
        held += low <= 0.04 - 0.1 <= high

    assert 930 <= held <= 990
