"""Each figure against a count by hand, or against the definition written out slowly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.verify.metrics.classification import calibration_error, classified, roc_auc, top_k
from towline.verify.metrics.difference import agreement, mcnemar, paired
from towline.verify.metrics.regression import regressed


def scores_for(answers: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[answers]


def test_a_small_confusion_is_counted_as_by_hand():
    found = classified(scores_for([0, 0, 1, 1, 2, 0], 3), np.array([0, 0, 1, 2, 2, 1]))

    assert found.confusion.tolist() == [[2, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert found.accuracy == pytest.approx(4 / 6)
    assert [one.precision for one in found.classes] == pytest.approx([2 / 3, 1 / 2, 1])
    assert [one.recall for one in found.classes] == pytest.approx([1, 1 / 2, 1 / 2])
    assert found.f1 == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert [one.support for one in found.classes] == [2, 2, 2]


def test_a_class_that_is_never_answered_scores_zero_and_one_without_rows_does_not_count():
    found = classified(scores_for([0, 0, 0], 3), np.array([0, 1, 0]))

    assert found.classes[1].f1 == 0
    assert math.isnan(found.classes[2].recall)
    assert found.recall == pytest.approx(1 / 2)


def test_top_k_counts_a_class_among_the_best():
    scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]])

    assert top_k(scores, np.array([1, 1, 2]), 1) == 0
    assert top_k(scores, np.array([1, 1, 2]), 2) == pytest.approx(2 / 3)
    assert top_k(np.ones((1, 3)), np.array([0]), 1) == 1


def test_a_model_as_sure_as_it_is_right_has_no_calibration_error_and_an_overconfident_one_has():
    sure = np.array([[0.75, 0.25]] * 4)

    assert calibration_error(sure, np.array([0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert calibration_error(sure, np.array([1, 1, 1, 1])) == pytest.approx(0.75)
    assert classified(np.array([[5.0, -2.0]]), np.array([0])).ece is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_the_area_under_the_curve_is_the_chance_that_a_positive_is_ranked_higher(rows: list[tuple[int, bool]]):
    scores, positive = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(scores[positive], scores[~positive])]

    found = roc_auc(scores, positive)

    assert math.isnan(found) if not pairs else found == pytest.approx(np.mean(pairs))


def test_a_regressor_is_measured_in_the_units_of_the_truth():
    found = regressed(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]))

    assert (found.mae, found.worst, found.bias) == (1.0, 2.0, pytest.approx(1 / 3))
    assert found.rmse == pytest.approx(math.sqrt(5 / 3))
    assert found.error_variance == pytest.approx(5 / 3 - 1 / 9)
    assert found.relative_error == pytest.approx((0 + 1 / 3 + 1) / 3)
    assert found.r2 == pytest.approx(1 - 5 / 2)
    assert math.isnan(regressed(np.ones(3), np.ones(3)).r2)


def test_the_interval_covers_a_true_difference_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        first, second = rng.random(300) < 0.8, rng.random(300) < 0.85
        interval = paired(first, second, seed=seed, resamples=500)
        covered += interval.low <= 0.05 <= interval.high

    assert 180 <= covered <= 199


def test_many_distinct_differences_are_resampled_row_by_row_with_the_same_result():
    rng = np.random.default_rng(2)
    first = rng.normal(size=400)
    second = first + rng.normal(0.2, 0.1, 400)

    interval = paired(first, second)

    assert interval.low > 0
    assert interval.low == pytest.approx(interval.difference - 1.96 * 0.1 / 20, abs=0.003)


def test_one_seed_gives_one_interval_and_equal_versions_differ_by_nothing():
    right = np.random.default_rng(0).random(100) < 0.9

    assert paired(right, ~right, seed=3) == paired(right, ~right, seed=3)
    assert paired(right, right) == paired(right, right, seed=9)
    assert paired(right, right).difference == 0


@pytest.mark.parametrize(("only_first", "only_second", "p"), [(0, 0, 1.0), (5, 0, 2 / 32), (1, 9, 2 * 11 / 1024), (4, 4, 1.0)])
def test_mcnemar_is_the_chance_of_a_coin(only_first: int, only_second: int, p: float):
    first = np.array([True] * only_first + [False] * only_second + [True] * 20)
    second = np.array([False] * only_first + [True] * only_second + [True] * 20)

    assert mcnemar(first, second).p == pytest.approx(p)


def test_thousands_of_rows_overflow_nothing():
    first = np.arange(20_000) % 2 == 0

    assert mcnemar(first, ~first).p == pytest.approx(1.0)
    assert mcnemar(first, np.ones_like(first)).p < 1e-300


def test_agreement_is_the_share_of_rows_with_one_first_class():
    assert agreement(scores_for([0, 1, 2], 3), scores_for([0, 2, 2], 3)) == pytest.approx(2 / 3)
