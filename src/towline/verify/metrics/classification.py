"""Figures of a classifier from its scores and the true classes. Pure.

Definitions are those of scikit-learn's user guide (model evaluation); ECE is that of Guo et al. 2017,
"On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TOP = (1, 3, 5)
# Equal-width bins of confidence, as in the paper.
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class ClassFigures:
    """Of one class, by its number: shares from 0 to 1, NaN where a denominator is zero; `support` is how many rows are of it."""

    precision: float
    recall: float
    f1: float
    roc_auc: float
    support: int


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of like confidence: the mean of it, and the share that was right."""

    confidence: float
    right: float
    rows: int


@dataclass(frozen=True)
class Classified:
    """Of a whole data set. `top` maps k to the share of rows whose class is among the k best; macro means weigh every class alike.

    `confusion[i, j]` counts rows of class i that were answered j. `ece` and `confidence` are None where scores are no probabilities.
    """

    rows: int
    accuracy: float
    top: dict[int, float]
    precision: float
    recall: float
    f1: float
    roc_auc: float
    ece: float | None
    confidence: float | None
    classes: tuple[ClassFigures, ...]
    confusion: np.ndarray
    calibration: tuple[CalibrationBin, ...] = ()


def classified(scores: np.ndarray, truth: np.ndarray) -> Classified:
    """`scores` float [rows, classes], logits or probabilities; `truth` int [rows], each in [0, classes)."""
    rows, classes = scores.shape
    answered = scores.argmax(axis=1)
    confusion = confusion_of(answered, truth, classes)
    by_class = class_shares(confusion)
    areas = [roc_auc(scores[:, number], truth == number) for number in range(classes)]
    support = confusion.sum(axis=1)
    found = tuple(
        ClassFigures(
            float(by_class[0][number]), float(by_class[1][number]), float(by_class[2][number]), areas[number], int(support[number])
        )
        for number in range(classes)
    )
    probabilities = as_probabilities(scores)
    precision, recall, f1 = (macro(share, confusion) for share in by_class)
    return Classified(
        rows=rows,
        accuracy=float((answered == truth).mean()),
        top={k: top_k(scores, truth, k) for k in TOP if k < classes},
        precision=precision,
        recall=recall,
        f1=f1,
        roc_auc=one_against_rest(scores, truth),
        ece=None if probabilities is None else calibration_error(probabilities, truth),
        confidence=None if probabilities is None else float(probabilities.max(axis=1).mean()),
        classes=found,
        confusion=confusion,
        calibration=() if probabilities is None else calibration_bins(probabilities, truth),
    )


def confusion_of(answered: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Counts [classes, classes]: rows of class i that were answered j. Both int [rows], each in [0, classes)."""
    return np.bincount(truth * classes + answered, minlength=classes * classes).reshape(classes, classes)


def class_shares(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, NaN where a denominator is zero."""
    hits, support, answered = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # F1 by counts, so that a class which is never answered scores 0 and not NaN.
        return hits / answered, hits / support, 2 * hits / (support + answered)


def macro(share: np.ndarray, confusion: np.ndarray) -> float:
    """The mean over classes that have rows: one that is never answered has no precision, which counts as 0, as scikit-learn has it."""
    return float(np.nan_to_num(share[confusion.sum(axis=1) > 0]).mean())


def top_k(scores: np.ndarray, truth: np.ndarray, k: int) -> float:
    """The share of rows whose class is among the k greatest scores; of equal scores the first classes count as greater."""
    return float(among_best(scores, truth, k).mean())


def among_best(scores: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Bool [rows]: whether the class is among the k greatest scores."""
    among: np.ndarray = (np.argsort(-scores, axis=1, kind="stable")[:, :k] == truth[:, None]).any(axis=1)
    return among


def one_against_rest(scores: np.ndarray, truth: np.ndarray) -> float:
    """The mean area under the ROC curve of the classes that have rows; NaN where all rows are of one."""
    return float(np.mean([roc_auc(scores[:, number], truth == number) for number in np.unique(truth)]))


def as_probabilities(scores: np.ndarray) -> np.ndarray | None:
    """The scores where they are probabilities: none negative, each row's sum 1 up to rounding; else None."""
    if not np.isfinite(scores).all() or (scores < 0).any() or not np.allclose(scores.sum(axis=1, dtype=np.float64), 1.0, atol=1e-3):
        return None
    return scores


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: over bins of confidence, the mean gap between confidence and accuracy, weighed by rows."""
    return sum(abs(one.confidence - one.right) * one.rows for one in calibration_bins(probabilities, truth, bins)) / len(truth)


def calibration_bins(probabilities: np.ndarray, truth: np.ndarray, bins: int = CALIBRATION_BINS) -> tuple[CalibrationBin, ...]:
    """Bins of confidence that hold rows, the least confident first."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = np.bincount(place, confidence, bins), np.bincount(place, right, bins)
    return tuple(CalibrationBin(float(sums[0][at] / rows), float(sums[1][at] / rows), int(rows)) for at, rows in enumerate(count) if rows)


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney U), ties counted half; NaN where there is only one kind. `positive` is bool."""
    wins = int(positive.sum())
    losses = len(positive) - wins
    if not wins or not losses:
        return math.nan
    ranks = mean_ranks(scores)
    return float((ranks[positive].sum() - wins * (wins + 1) / 2) / (wins * losses))


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return means
