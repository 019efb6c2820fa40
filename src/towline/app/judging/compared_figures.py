"""The figures of two versions side by side: differences with intervals, what is lost and gained, the worst rows, the verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from towline.app.judging.judge import number
from towline.app.judging.measure import Found, of_both
from towline.verify.accuracy import Answered, figures_of
from towline.verify.gates import Verdict
from towline.verify.metrics.by_class import ClassDifference
from towline.verify.metrics.named import Metric
from towline.verify.pace import Pace, throughput_ratios

WORST_ROWS = 10


@dataclass(frozen=True)
class Figure:
    """Of both versions, and second minus first. `low` and `high` bound the difference with 95 % confidence where rows were paired."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    is_paired: bool

    def as_json(self) -> dict[str, object]:
        bounds = {name: number(getattr(self, name)) for name in ("first", "second", "difference", "low", "high")}
        return {**bounds, "is_paired": self.is_paired}


def paired_figures(
    found: Sequence[Found], answered: Sequence[Answered], truth: np.ndarray, classes: int, metric: Metric, seed: int
) -> dict[str, Figure]:
    """All figures of both; that of the metric has an interval for its difference."""
    both = [figures_of(one) for one in found]
    figures = {name: unpaired(value, both[1][name]) for name, value in both[0].items() if name in both[1]}
    first, second, low, high = of_both(metric, answered, found, truth, classes, seed=seed)
    return {**figures, metric.name: Figure(first, second, second - first, low, high, is_paired=True)}


def unpaired(first: float, second: float) -> Figure:
    return Figure(first, second, second - first, np.nan, np.nan, is_paired=False)


def relative(
    figures: Mapping[str, Figure],
    metric: Metric | None,
    timed: Sequence[Pace],
    agreed: float | None,
    by_class: Sequence[ClassDifference] = (),
) -> dict[str, float]:
    """What only two versions have: how much is lost, and gained. A loss is positive, in the unit of the metric."""
    told: dict[str, float] = {} if agreed is None else {"agreement": agreed}
    if metric is not None:
        one = figures[metric.name]
        told |= {"drop": metric.lost(one.difference), "drop_sure": metric.lost(one.low if metric.better == "higher" else one.high)}
    if by_class:
        told |= {"worst_class_drop": max(-one.difference for one in by_class)}
    if timed:
        told |= {"speedup": timed[0].p50_ms / timed[1].p50_ms, "throughput_ratio": throughput_ratios(*timed)[0]}
    size = figures["size_mb"]
    return told | {"size_ratio": size.second / size.first}


def right_rows(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Bool [rows]; a row that is not finite is wrong, though argmax takes a NaN for the greatest."""
    right: np.ndarray = (scores.argmax(axis=1) == truth) & np.isfinite(scores).all(axis=1)
    return right


def worst_rows(scores: Sequence[np.ndarray], truth: np.ndarray | None, labels: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """Rows where the two put different classes first, the surest of the second first; those it lost before those nobody can judge."""
    if not scores:
        return ()
    first, second = (one.argmax(axis=1) for one in scores)
    lost = (first != second) if truth is None else right_rows(scores[0], truth) & ~right_rows(scores[1], truth)
    sure = np.take_along_axis(scores[1], second[:, None], axis=1)[:, 0]
    order = [int(row) for row in np.argsort(-sure, kind="stable") if lost[row]][:WORST_ROWS]

    def called(place: int) -> str:
        return labels[place] if place < len(labels) else str(place)

    return tuple((row, f"{called(first[row])} became {called(second[row])}") for row in order)


def class_json(one: ClassDifference, labels: Sequence[str]) -> dict[str, object]:
    return {
        "label": labels[one.place] if one.place < len(labels) else str(one.place),
        "support": one.support,
        "recall": [number(value) for value in one.recall],
        "f1": [number(value) for value in one.f1],
        "difference": number(one.difference),
        "low": number(one.low),
        "high": number(one.high),
        "lost": one.lost,
        "won": one.won,
    }


def verdict_words(found: Sequence[Verdict], figures: Mapping[str, Figure], metric: Metric | None) -> str:
    failed = [one for one in found if not one.passed]
    if failed:
        return f"Not fit to take over: {'; '.join(one.words() for one in failed)}."
    if metric is None:
        return "Without labels nothing is said about which is better."
    one = figures[metric.name]
    sure = one.low > 0 or one.high < 0
    if not sure:
        return "No difference in quality that these rows could show."
    return "The second is surely worse." if metric.lost(one.difference) > 0 else "The second is surely better."
