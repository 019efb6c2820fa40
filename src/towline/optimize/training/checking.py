"""Whether what is known of the rows goes with what the module answers, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from towline.optimize.base import PassFailed
from towline.optimize.rows import UNKNOWN, Rows
from towline.optimize.training.batches import gather, names_of
from towline.optimize.training.losses import class_axis


def check_answers(module: nn.Module, rows: Rows) -> None:
    """Raises PassFailed when the module takes no batches, when the truth has classes that it has not, and when the truth or a teacher's
    answers have another shape than its own."""
    some = gather(rows, names_of(module, rows), np.arange(min(rows.count, 2)))
    trained = module.training
    module.eval()
    try:
        with torch.no_grad():
            logits = module(*some.inputs)
    except (RuntimeError, IndexError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PassFailed(f"The model cannot be asked {some.size} rows of the data at once: {told}") from error
    finally:
        module.train(trained)
    if len(logits) != some.size:
        hint = "Import the model with an open first dimension."
        raise PassFailed(f"The model answers {some.size} rows with {len(logits)}: training needs batches.", hint=hint)
    shape = (rows.count, *logits.shape[1:])
    if rows.truth is not None:
        _check_truth(shape, rows.truth)
    _check_teacher(shape, rows.answers, rows.output)


def _check_truth(logits: tuple[int, ...], truth: np.ndarray) -> None:
    values = int(np.prod(logits[1:]))
    each = int(np.prod(truth.shape[1:]))
    if truth.dtype.kind == "f":
        if values != each:
            raise PassFailed(f"Each row has {each} targets, but the model answers with {values} values.", hint="Check the data's columns.")
        return
    axis = class_axis(logits, truth.shape)
    if values != each and truth.shape != tuple(size for place, size in enumerate(logits) if place != axis):
        raise PassFailed(
            f"Labels of shape {list(truth.shape)} do not go with logits of shape {list(logits)}.", hint="There must be one label a row."
        )
    # One output for one label is that of a yes.
    classes = 2 if values == each else logits[axis]
    odd = np.flatnonzero(((truth < 0) & (truth != UNKNOWN)) | (truth >= classes))
    if len(odd):
        raise PassFailed(
            f"A label is {int(truth.flat[odd[0]])}, but the model has {classes} classes, 0 to {classes - 1}.",
            hint="Check the data's labels: are they of this model?",
        )


def _check_teacher(logits: tuple[int, ...], answers: Mapping[str, np.ndarray], output: str) -> None:
    if output in answers and int(np.prod(answers[output].shape[1:])) != int(np.prod(logits[1:])):
        raise PassFailed(
            f"The teacher answers with {list(answers[output].shape[1:])} a row, the model with {list(logits[1:])}.",
            hint="Choose a teacher of the same classes.",
        )
