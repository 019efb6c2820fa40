"""How good a version's answers are over a labelled data set: run every row, then count."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from towline.core import dtypes
from towline.core.manifest import Signature, TensorSpec
from towline.verify.contract import Runner
from towline.verify.data.dataset import DataSet, refused
from towline.verify.metrics.classification import Classified, classified
from towline.verify.metrics.regression import Regressed, regressed

# Answers are kept until they are counted: this many bytes of them.
MAX_KEPT_BYTES = 8 << 30

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reading:
    """How an output answers the question that the labels ask.

    `scores`: float [rows, classes]. `chance`: float [rows] or [rows, 1], of the second of two classes. `ranked`: whole numbers
    [rows] or [rows, k], the classes in order, best first. `values`: floats to come near to.
    """

    output: str
    kind: str


@dataclass(frozen=True)
class Answered:
    """Every row's answer, in order. `run_s` is the seconds that each run took, `rows_per_run` how many rows went into one."""

    reading: Reading
    answers: np.ndarray
    run_s: tuple[float, ...]
    rows_per_run: int
    not_finite_rows: int
    figures: Mapping[str, float] = field(default_factory=dict)

    def scores(self, classes: int = 0) -> np.ndarray:
        """Float [rows, classes], whichever way the model answers; of ranked classes the first has 1, the next 1/2, 1/3, …."""
        if self.reading.kind == "scores":
            return self.answers
        if self.reading.kind == "chance":
            chance = self.answers.reshape(len(self.answers), -1)[:, 0].astype(np.float64)
            return np.stack([1 - chance, chance], axis=1)
        ranked = self.answers.reshape(len(self.answers), -1).astype(np.int64)
        scores = np.zeros((len(ranked), max(classes, int(ranked.max(initial=0)) + 1)))
        np.put_along_axis(scores, ranked, 1.0 / (1 + np.arange(ranked.shape[1])), axis=1)
        return scores


def reading_of(signature: Signature, data: DataSet, output: str = "") -> Reading:
    """Which output answers, and how. `output` names it where several could. Raises UsageError when none can."""
    specs = [spec for spec in signature.outputs if not output or spec.name == output]
    if not specs:
        raise refused(f"there is no output '{output[:64]}'; this version has {_names(signature)}", hint="Name one: --output NAME.")
    is_class = data.truth is None or (data.truth.dtype.kind == "i" and data.truth.ndim == 1)
    for fits, kind in _CLASSES if is_class else _VALUES:
        found = [spec for spec in specs if fits(spec)]
        if len(found) == 1 or (found and kind == "ranked"):
            return Reading(found[0].name, kind)
        if found:
            raise refused(f"several outputs could be meant: {', '.join(spec.name for spec in found)}", hint="Name one: --output NAME.")
    raise refused(
        f"no output of this version ({_names(signature)}) answers what the labels ask, {'a class' if is_class else 'a value'} per row",
        hint="Give labels of the other kind, or an output's name: --output NAME.",
    )


def _is_float(spec: TensorSpec) -> bool:
    return dtypes.BY_NAME[spec.dtype].is_float


def _is_scores(spec: TensorSpec) -> bool:
    return _is_float(spec) and spec.shape is not None and len(spec.shape) == 2 and spec.shape[1] != 1 and spec.name != "score"


def _is_ranked(spec: TensorSpec) -> bool:
    return dtypes.BY_NAME[spec.dtype].is_integer and spec.shape is not None and len(spec.shape) in (1, 2)


def _is_chance(spec: TensorSpec) -> bool:
    return _is_float(spec) and spec.shape is not None and (len(spec.shape) == 1 or (len(spec.shape) == 2 and spec.shape[1] == 1))


_CLASSES = ((_is_scores, "scores"), (_is_ranked, "ranked"), (_is_chance, "chance"))
_VALUES = ((_is_float, "values"),)


def answer_all(runner: Runner, data: DataSet, reading: Reading, rows_per_run: int, progress: Progress | None = None) -> Answered:
    """Run every row of the data set, `rows_per_run` at a time."""
    parts: list[np.ndarray] = []
    run_s: list[float] = []
    kept_bytes = not_finite = 0
    for batch in data.batches(rows_per_run):
        began_s = time.perf_counter()
        answer = runner.run(batch.inputs)[reading.output]
        run_s.append(time.perf_counter() - began_s)
        if answer.ndim == 0 or len(answer) != batch.rows:
            raise refused(
                f"output '{reading.output}' has shape {list(answer.shape)} for {batch.rows} rows, which are not answered one by one"
            )
        if answer.dtype.kind == "f":
            not_finite += int((~np.isfinite(answer.reshape(len(answer), -1)).all(axis=1)).sum())
        kept_bytes += answer.nbytes
        if kept_bytes > MAX_KEPT_BYTES:
            raise refused(f"its answers take more than {MAX_KEPT_BYTES >> 30} GiB", hint="Test with fewer rows: --limit N.")
        parts.append(answer)
        if progress is not None:
            progress(batch.start + batch.rows, data.rows)
    return Answered(reading, np.concatenate(parts), tuple(run_s), rows_per_run, not_finite)


def judged(answered: Answered, truth: np.ndarray, classes: int = 0) -> Classified | Regressed:
    """The figures that fit the kind of answer. Rows whose answers are not finite count as wrong, never as missing."""
    countable = countable_answers(answered, truth, classes)
    return regressed(countable, truth) if answered.reading.kind == "values" else classified(countable, truth)


def countable_answers(answered: Answered, truth: np.ndarray, classes: int = 0) -> np.ndarray:
    """Values in the shape of the truth, or finite scores [rows, classes]: what figures are counted of."""
    if answered.reading.kind == "values":
        if answered.answers.size != truth.size:
            raise refused(f"the labels have shape {list(truth.shape)}, the answers {list(answered.answers.shape)}")
        return answered.answers.reshape(truth.shape)
    known = max(classes, int(truth.max(initial=0)) + 1)
    scores = answered.scores(known)
    if int(truth.max(initial=0)) >= scores.shape[1]:
        raise refused(f"a label is {int(truth.max())}, and the model tells {scores.shape[1]} classes apart, from 0")
    if int(truth.min(initial=0)) < 0:
        raise refused(f"a label is {int(truth.min())}; classes are numbered from 0")
    # argmax would take a NaN for the greatest.
    return np.where(np.isfinite(scores).all(axis=1, keepdims=True), scores, _nothing(scores, truth))


def _nothing(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Scores that put another class than the true one first."""
    wrong = np.zeros(scores.shape)
    np.put_along_axis(wrong, ((truth + 1) % scores.shape[1])[:, None], 1.0, axis=1)
    return wrong


def figures_of(found: Classified | Regressed) -> dict[str, float]:
    """The figures that gates and reports know by name. Pure."""
    if isinstance(found, Regressed):
        names = ("mae", "relative_error", "rmse", "bias", "error_variance", "worst", "r2")
        return {name: float(getattr(found, name)) for name in names}
    named = {"accuracy": found.accuracy, "precision": found.precision, "recall": found.recall, "f1": found.f1, "roc_auc": found.roc_auc}
    tops = {f"top{k}": share for k, share in found.top.items() if k > 1}
    worst = min((one.recall for one in found.classes if one.support), default=float("nan"))
    return {**named, **tops, "worst_recall": worst, **({"ece": found.ece} if found.ece is not None else {})}


def _names(signature: Signature) -> str:
    return ", ".join(spec.name for spec in signature.outputs)
