"""What two versions make of each class, on the same rows: recall and F1 of both, rows won and lost, and how sure the difference is. Pure.

The interval of a class is Agresti and Min's for a difference of paired proportions (2005, "Simple improved confidence intervals for
comparing matched proportions"): half a row is added to each of the four cells, so that a class of few rows is never called sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from towline.verify.metrics.classification import Classified

# Of the normal distribution, two-sided 95 %.
_Z = 1.959964


@dataclass(frozen=True)
class ClassDifference:
    """Of one class, by its number. Recalls and F1s are of first and second; `difference` is the second's recall minus the first's, with
    the interval that holds it with 95 % confidence. `lost` are rows of it that only the first gets right, `won` only the second."""

    place: int
    support: int
    recall: tuple[float, float]
    f1: tuple[float, float]
    lost: int
    won: int
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.recall[1] - self.recall[0]


def class_differences(found: Sequence[Classified], right: Sequence[np.ndarray], truth: np.ndarray) -> tuple[ClassDifference, ...]:
    """Of each class that has rows: the most surely lost first, then those that may have lost the most.

    `right` are bool [rows] of both, `truth` int [rows]."""
    classes = len(found[0].classes)
    lost = np.bincount(truth[right[0] & ~right[1]], minlength=classes)
    won = np.bincount(truth[~right[0] & right[1]], minlength=classes)
    each = [_of_class(place, found, int(lost[place]), int(won[place])) for place in range(classes) if found[0].classes[place].support]
    return tuple(sorted(each, key=lambda one: (min(one.high, 0.0), one.difference, -one.support)))


def paired_interval(lost: int, won: int, rows: int) -> tuple[float, float]:
    """Of the share won minus the share lost."""
    more, less, all_rows = won + 0.5, lost + 0.5, rows + 2
    middle = (more - less) / all_rows
    reach = _Z * float(np.sqrt(more + less - (more - less) ** 2 / all_rows)) / all_rows
    return max(-1.0, middle - reach), min(1.0, middle + reach)


def _of_class(place: int, found: Sequence[Classified], lost: int, won: int) -> ClassDifference:
    first, second = (one.classes[place] for one in found)
    low, high = paired_interval(lost, won, first.support)
    return ClassDifference(place, first.support, (first.recall, second.recall), (first.f1, second.f1), lost, won, low, high)
