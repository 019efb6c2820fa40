"""How much worse the answers to labelled rows become when one operator is quantised, by the figure that judges the search as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from towline.app.judging.measure import judging, of_both
from towline.app.optimizing.candidates import calibration_rows
from towline.app.optimizing.lessons import graph_output
from towline.core.errors import UsageError
from towline.core.manifest import TENSORS_SIGNATURE, Manifest
from towline.optimize.rows import open_rows
from towline.optimize.sensitivity import Loss, answers_file
from towline.verify.accuracy import Answered, Reading, judged, reading_of
from towline.verify.data.dataset import DataSet
from towline.verify.metrics.named import Metric


@dataclass(frozen=True)
class Losses:
    """`truth` is of the rows that calibrate, then of those held back of the rows to train on; `reading` is how the graph's own output
    answers it; without a `metric` accuracy judges, and the mean error of values."""

    reading: Reading
    truth: np.ndarray
    classes: int
    metric: Metric | None = None

    @property
    def output(self) -> str:
        return self.reading.output

    def of(self, scratch: Path, number: int) -> Loss | None:
        """Of the operator that run_sensitivity gave as `number`; None where its answers are not what the labels ask for."""
        file = answers_file(scratch, number)
        answers = [np.load(one, allow_pickle=False) for one in (answers_file(scratch, None), file)]
        file.unlink()
        try:
            return self.between(*answers)
        except UsageError:
            return None

    def between(self, before: np.ndarray, after: np.ndarray) -> Loss:
        """Of two answers to the first rows, how much the second are worse. Raises UsageError for answers of another shape, and where the
        metric says nothing of these rows. Pure but for a metric of the user's own."""
        truth = self.truth[: len(before)]
        answered = [Answered(self.reading, one, (), len(one), 0) for one in (before, after)]
        found = [judged(one, truth, self.classes) for one in answered]
        metric = judging(self.metric, found[0])
        first, second, *bounds = of_both(metric, answered, found, truth, self.classes, seed=0)
        lost, low, high = metric.lost(second - first), *sorted(map(metric.lost, bounds))
        if not np.isfinite([lost, low, high]).all():
            raise UsageError(f"{metric.name} has no value on these rows.", code="METRIC_DOES_NOT_FIT", field="metric")
        return Loss(metric.name, lost, low, high, len(truth), metric.is_share)


def losses_of(
    manifest: Manifest, classes: int, calibrating: DataSet, output: str, rows: Path | None = None, metric: Metric | None = None
) -> Losses | None:
    """By the labels of the rows that calibrate, and of those that a training in `rows` holds back. None without labels, and where `output`
    is none of the graph's."""
    if calibrating.truth is None:
        return None
    signature = manifest.signatures[TENSORS_SIGNATURE] if manifest.processing else manifest.signature
    try:
        reading = reading_of(signature, calibrating, graph_output(manifest, output))
    except UsageError:
        return None
    truth = calibrating.truth[: calibration_rows(manifest, calibrating.rows)]
    learnt = open_rows(rows) if rows is not None else None
    if learnt is not None and learnt.truth is not None and learnt.truth.dtype.kind == truth.dtype.kind:
        truth = np.concatenate([truth, learnt.truth[learnt.to_fit :]])
    return Losses(reading, truth, classes, metric)
