"""The figures that may judge versions, by name: which way each is better, and what it is on some of the rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from towline.verify.metrics.classification import (
    among_best,
    as_probabilities,
    calibration_error,
    class_shares,
    confusion_of,
    macro,
    one_against_rest,
)
from towline.verify.metrics.difference import RECOUNTS, Interval, paired, recounted
from towline.verify.metrics.regression import regressed

Better = Literal["higher", "lower"]
# Values that all recounts together may look at: a second or two of sorting.
_MOST_VALUES = 20_000_000
_LEAST_RESAMPLES = 100


@dataclass(frozen=True)
class Metric:
    """One figure that says how good answers are. Shares (0 to 1) are told in points. Of a function of the user's own, `source` is
    FILE.py:FUNCTION and `digest` the hex SHA-256 of the file."""

    name: str
    better: Better = "higher"
    is_share: bool = False
    source: str = ""
    digest: str = ""

    def lost(self, difference: float) -> float:
        """How much a difference (second minus first) loses; what is below 0 is gained."""
        return (-difference if self.better == "higher" else difference) + 0.0

    def told(self, lost: float) -> str:
        """A loss in the unit that people say it in."""
        return f"{100 * lost:.3g} pt" if self.is_share else f"{lost:.4g}"

    def as_json(self) -> dict[str, object]:
        return vars(self)


def _shares(*names: str) -> dict[str, Metric]:
    return {name: Metric(name, is_share=True) for name in names}


def _errors(*names: str) -> dict[str, Metric]:
    return {name: Metric(name, "lower") for name in names}


CLASSES = _shares("accuracy", "top3", "top5", "precision", "recall", "f1", "worst_recall", "roc_auc") | {
    "ece": Metric("ece", "lower", is_share=True)
}
# Bias is missing: it is best in the middle.
VALUES = _errors("mae", "rmse", "error_variance", "worst") | {
    "relative_error": Metric("relative_error", "lower", is_share=True),
    "r2": Metric("r2"),
}
NAMED = CLASSES | VALUES


def difference(name: str, first: np.ndarray, second: np.ndarray, truth: np.ndarray, *, seed: int = 0) -> Interval:
    """Of a named figure, second minus first, with its interval. Both are scores [rows, classes] or values in the shape of the truth."""
    if (each := _PER_ROW.get(name)) is not None:
        return paired(each(first, truth), each(second, truth), seed=seed)
    affordable = max(_LEAST_RESAMPLES, min(RECOUNTS, _MOST_VALUES // max(1, first.size)))
    count = _COUNTED[name]
    return recounted(count(first, truth), count(second, truth), len(truth), seed=seed, resamples=affordable)


# What it is of each row, where the figure is the mean of that.
_PER_ROW: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": lambda scores, truth: scores.argmax(axis=1) == truth,
    "top3": lambda scores, truth: among_best(scores, truth, 3),
    "top5": lambda scores, truth: among_best(scores, truth, 5),
    "mae": lambda answers, truth: np.abs(answers.astype(np.float64) - truth).reshape(len(truth), -1).mean(axis=1),
}


def _by_confusion(figure: Callable[[np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]]:
    def of(scores: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        answered, classes = scores.argmax(axis=1), scores.shape[1]
        return lambda places: figure(confusion_of(answered[places], truth[places], classes))

    return of


def _by_rows(figure: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]]:
    return lambda answers, truth: lambda places: figure(answers[places], truth[places])


def _macro(which: int) -> Callable[[np.ndarray], float]:
    return lambda confusion: macro(class_shares(confusion)[which], confusion)


def _calibration(scores: np.ndarray, truth: np.ndarray) -> float:
    probabilities = as_probabilities(scores)
    return math.nan if probabilities is None else calibration_error(probabilities, truth)


def _error(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda answers, truth: float(getattr(regressed(answers, truth), name))


_COUNTED = {
    "precision": _by_confusion(_macro(0)),
    "recall": _by_confusion(_macro(1)),
    "f1": _by_confusion(_macro(2)),
    "worst_recall": _by_confusion(lambda confusion: float(np.nanmin(class_shares(confusion)[1]))),
    "roc_auc": _by_rows(one_against_rest),
    "ece": _by_rows(_calibration),
    **{name: _by_rows(_error(name)) for name in VALUES if name != "mae"},
}
