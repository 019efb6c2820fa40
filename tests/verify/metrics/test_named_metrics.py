"""A figure that judges is, counted anew of all rows, the figure itself, and its difference has an interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from towline.verify.metrics.classification import classified
from towline.verify.metrics.named import NAMED, VALUES, difference
from towline.verify.metrics.own import beside
from towline.verify.metrics.regression import regressed


def scores_and_truth(*noise: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Of seven classes, the noisier the worse."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 7, 70)
    # Cubed, the first is as sure as it is right.
    scores = [(np.eye(7)[truth] + np.abs(rng.normal(scale=scale, size=(70, 7)))) ** 3 for scale in noise]
    return [one / one.sum(axis=1, keepdims=True) for one in scores], truth


def values_and_truth(*noise: float) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(60, 2))
    return [truth + rng.normal(scale=scale, size=truth.shape) for scale in noise], truth


def figure(name: str, answers: np.ndarray, truth: np.ndarray) -> float:
    if name in VALUES:
        return float(getattr(regressed(answers, truth), name))
    found = classified(answers, truth)
    if name == "worst_recall":
        return min(one.recall for one in found.classes)
    return found.top[int(name[3:])] if name in ("top3", "top5") else float(getattr(found, name))


@pytest.mark.parametrize("name", NAMED)
def test_what_is_counted_anew_of_all_rows_is_the_figure_itself(name: str):
    (first, second), truth = (values_and_truth if name in VALUES else scores_and_truth)(0.5, 1.5)

    interval = difference(name, first, second, truth)

    assert interval.difference == pytest.approx(figure(name, second, truth) - figure(name, first, truth))
    # Who is surer than right is worse calibrated, whatever else is better.
    assert name == "ece" or NAMED[name].lost(interval.difference) > 0, "the second is noisier"
    assert interval.low < interval.difference < interval.high


def test_one_seed_draws_the_same_rows():
    (first, second), truth = scores_and_truth(0.5, 1.5)

    assert difference("f1", first, second, truth, seed=3) == difference("f1", first, second, truth, seed=3)
    assert difference("f1", first, second, truth, seed=3) != difference("f1", first, second, truth, seed=4)


@pytest.mark.parametrize("name", NAMED)
def test_a_version_beside_itself_loses_nothing_by_any_figure(name: str):
    (one,), truth = (values_and_truth if name in VALUES else scores_and_truth)(0.5)

    interval = difference(name, one, one, truth)

    assert (interval.difference, interval.low, interval.high) == (0, 0, 0)


def test_a_figure_that_most_draws_lack_has_no_interval():
    truth = np.array([0] * 39 + [1])
    scores = np.stack([1.0 - truth, truth], axis=1)

    assert math.isnan(classified(scores[:39], truth[:39]).roc_auc), "without a single row of the second class there is no area"
    assert math.isfinite(difference("roc_auc", scores, scores, truth).low), "which is so in a third of the draws"
    # A draw of forty rows that are all different is one of very few.
    places = np.arange(40.0)
    few = beside(lambda answers, known: 1.0 if len(np.unique(known)) == 40 else np.nan, (places, places), places, seed=0, most_s=60)
    assert (few["first"], few["low"], few["high"]) == (1.0, None, None)


@pytest.mark.parametrize(
    ("told", "said"), [({"a": 1.0, "b": 2.0}, "a dict of 2"), ("good", "str"), (None, "NoneType"), (True, "bool"), (np.ones(2), "ndarray")]
)
def test_what_judges_is_one_number(told: object, said: str):
    with pytest.raises(TypeError, match=f"it returned {said}; what judges versions is one number"):
        beside(lambda answers, truth: told, (np.zeros(9), np.zeros(9)), np.zeros(9), seed=0, most_s=60)


def test_a_function_of_ones_own_is_drawn_as_a_named_figure_is():
    (first, second), truth = values_and_truth(0.3, 0.9)

    own = beside(lambda answers, known: regressed(answers, known).rmse, (first, second), truth, seed=0, most_s=600)

    named = difference("rmse", first, second, truth)
    assert (own["low"], own["high"]) == pytest.approx((named.low, named.high))


def test_one_whose_figure_is_no_number_of_all_rows_has_none():
    nothing = beside(lambda answers, truth: np.float32("nan"), (np.zeros(9), np.ones(9)), np.zeros(9), seed=0, most_s=60)

    assert set(nothing.values()) == {None}
