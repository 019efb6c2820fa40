"""How well a source and its conversion do what they were trained for, on the same labelled rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from towline.core.errors import UsageError
from towline.verify.metrics.regression import regressed

_Answers = Mapping[str, np.ndarray]
_TRUE_ABOVE = 0.5


@dataclass(frozen=True)
class Labelled:
    """`metric` is `accuracy`, a share from 0 to 1, or `mean absolute error`, in the units of the truth; of `output`, over `rows`."""

    metric: str
    output: str
    rows: int
    source: float
    conversion: float

    def words(self) -> str:
        return (
            f"On {self.rows:,} labelled rows, by output '{self.output[:64]}': "
            f"{self.metric} {self.source:.4g} in the source, {self.conversion:.4g} converted."
        )

    def as_json(self) -> dict[str, object]:
        return dict(vars(self))


def labelled(answers: Sequence[tuple[np.ndarray, _Answers, _Answers]]) -> Labelled:
    """Of (truth, the source's answer, the conversion's) by batch. `truth` is int64 [rows] for classes, float64 [rows, …] for values.

    Raises UsageError when no output can be measured against such a truth.
    """
    truth = np.concatenate([one for one, _, _ in answers])
    sides = [{name: np.concatenate([batch[side][name] for batch in answers]) for name in answers[0][1]} for side in (1, 2)]
    for name, array in sides[0].items():
        if truth.dtype.kind == "i":
            told = [classes for side in sides if (classes := _classes(side[name], truth)) is not None]
            if len(told) == 2:
                source, conversion = (float(np.equal(one, truth).mean()) for one in told)
                return Labelled("accuracy", name, len(truth), source, conversion)
        elif array.dtype.kind == "f" and array.size == truth.size:
            source, conversion = (regressed(side[name].reshape(truth.shape), truth).mae for side in sides)
            return Labelled("mean absolute error", name, len(truth), source, conversion)
    wanted = "scores or classes of as many rows" if truth.dtype.kind == "i" else f"{truth.size} values"
    raise UsageError(
        f"The data cannot be used: no output of the model holds {wanted}.", code="BAD_DATA", field="data", hint="Leave --data out."
    )


def _classes(array: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """The class that each row is answered with: the greatest of its scores, the class itself, or whether the one score is above 0.5."""
    rows = len(truth)
    if array.ndim == 2 and array.dtype.kind == "f" and array.shape[1] > max(int(truth.max(initial=0)), 1):
        return np.asarray(array.argmax(axis=1))
    if array.size == rows and array.dtype.kind in "iub":
        return array.reshape(rows).astype(np.int64)
    if array.size == rows and array.dtype.kind == "f" and set(np.unique(truth)) <= {0, 1}:
        return (array.reshape(rows) > _TRUE_ABOVE).astype(np.int64)
    return None
