"""When a training has gone far enough, by the metric that judges the search: of the answers to the rows that it holds back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from towline.app.judging.measure import value_of
from towline.app.optimizing.losses import Losses
from towline.optimize.base import Judge
from towline.optimize.rows import open_rows
from towline.verify.accuracy import Answered, Reading
from towline.verify.metrics.named import Metric


@dataclass(frozen=True)
class _HeldBack:
    metric: Metric
    reading: Reading
    truth: np.ndarray
    classes: int

    def value(self, answers: np.ndarray) -> float:
        return value_of(self.metric, Answered(self.reading, answers, (), len(answers), 0), self.truth, self.classes)


def judge_of(metric: Metric | None, losses: Losses | None, rows: Path | None) -> Judge | None:
    """None where nobody asked for a metric, where no labelled rows are held back, and where the graph's own output does not answer their
    labels: then the loss tells."""
    if metric is None or losses is None or rows is None:
        return None
    learnt = open_rows(rows)
    if learnt.truth is None or not learnt.held_back or learnt.truth.dtype.kind != losses.truth.dtype.kind:
        return None
    held_back = _HeldBack(metric, losses.reading, np.array(learnt.truth[learnt.to_fit :]), losses.classes)
    return Judge(metric.name, metric.better == "higher", f"{metric.name} {metric.source} {metric.digest}", held_back.value)
