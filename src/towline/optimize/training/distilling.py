"""Train a student on what a teacher said, and on what the teacher's own graph says of rows that augmentation changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.cost import multiply_adds, parameters
from towline.optimize.distill import student_of
from towline.optimize.rows import UNKNOWN, Rows
from towline.optimize.students.asked import asked_of
from towline.optimize.students.folding import folded
from towline.optimize.students.pairing import paired
from towline.optimize.students.spreads import spreads_of
from towline.optimize.training.batches import Batch, gather, names_of
from towline.optimize.training.graph import Trainable, trainable
from towline.optimize.training.loop import train
from towline.optimize.training.losses import Loss, loss_for
from towline.optimize.training.writing import write_trained

if TYPE_CHECKING:
    from towline.optimize.distill import Distill

# Rows on which the version's own graph must say what the teacher said, to be taken for the teacher.
_ASKED_ROWS = 16
_CLOSE = 1e-3


def distilled(chosen: Distill, model: Path, into: Path, rows: Rows, material: Material) -> Passed:
    """Draw the student, train it, write it with its batch norms folded. Raises PassFailed."""
    proto = onnx.load(model)
    student = student_of(chosen, proto, rows.output, spreads_of(asked_of(proto, rows.output), rows))
    drawn = into / "student.onnx"
    onnx.save(student, drawn)
    module = trainable(drawn, rows.output)
    settings = chosen.training
    loss: Loss = loss_for(
        rows, activation=module.activation, smoothing=settings.smoothing, temperature=chosen.temperature, alpha=chosen.alpha
    )
    teacher = _teacher(model, rows) if chosen.features or (settings.augment and chosen.alpha) else None
    notes = [_cost(student, proto), _rows(rows)]
    if chosen.features:
        if teacher is None:
            raise PassFailed("Inner tensors can be compared only where the version itself is the teacher.", hint="Leave `features` out.")
        pairs = chosen.features if isinstance(chosen.features, tuple) else paired(student, proto)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            loss = Alike(loss, module, teacher, pairs, gather(rows, names_of(module, rows), np.arange(2)), chosen.features_weight)
        notes.append(f"Made alike: {', '.join(f'{its} and {theirs}' for its, theirs in pairs)}.")
    if settings.augment and teacher is not None:
        loss = Answering(loss, teacher)
        notes.append("The teacher answered the changed pictures too.")
    curves = train(module, rows, settings, loss, keep=material.keep, say=material.say, judge=material.judge)
    write_trained(module, drawn, into)
    onnx.save(folded(onnx.load(into / "model.onnx")), into / "model.onnx")
    drawn.unlink()
    return Passed("model.onnx", (*notes, *_found(curves, rows)), curves)


class Alike(nn.Module):
    """A loss, and how far inner tensors of the student are from the teacher's: each by way of a 1x1 convolution that is trained along
    (a regressor; a linear map where they are no pictures), squared, by the teacher's own mean square."""

    def __init__(
        self, loss: Loss, student: Trainable, teacher: Trainable, pairs: Sequence[tuple[str, str]], some: Batch, weight: float
    ) -> None:
        super().__init__()
        self.loss, self._pairs, self._weight = loss, tuple(pairs), weight
        # No submodules: they are trained elsewhere, or not at all.
        self._teacher, self._seen = (teacher,), dict[str, Tensor]()
        with torch.no_grad():
            its = student.tensors(some.inputs, [name for name, _ in pairs])
            theirs = teacher.tensors(some.inputs, [name for _, name in pairs])
        self.regressors = nn.ModuleList(_regressor(its[name], theirs[other]) for name, other in pairs)
        for name, _ in pairs:
            student.taps[name] = self._keeping(name, student.taps.get(name))

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted = self._teacher[0].tensors(batch.inputs, [name for _, name in self._pairs])
        apart = [
            (regressor(self._seen[name]) - wanted[other]).square().mean() / wanted[other].square().mean().clamp(min=1e-12)
            for regressor, (name, other) in zip(self.regressors, self._pairs, strict=True)
        ]
        self._seen.clear()
        return self.loss(logits, batch) + self._weight * torch.stack(apart).mean()

    def extra_repr(self) -> str:
        return f"{self.loss!r}, {self._pairs}, {self._weight}"

    def _keeping(self, name: str, before: Any) -> Any:
        def tap(value: Tensor) -> Tensor:
            self._seen[name] = value if before is None else before(value)
            return self._seen[name]

        return tap


class Answering(nn.Module):
    """A loss whose batches the teacher's graph answers itself: what augmentation changed has another answer (Beyer et al. 2022,
    "Knowledge distillation: A good teacher is patient and consistent")."""

    def __init__(self, loss: Loss, teacher: Trainable) -> None:
        super().__init__()
        self.loss, self._teacher = loss, (teacher,)

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        (teacher,) = self._teacher
        with torch.no_grad():
            said = teacher.tensors(batch.inputs, [teacher.output])[teacher.output]
        return self.loss(logits, replace(batch, answers={**batch.answers, teacher.output: said}))

    def extra_repr(self) -> str:
        return repr(self.loss)


def _teacher(model: Path, rows: Rows) -> Trainable | None:
    """The version's own graph, where it is the teacher: it says what the rows' answers say."""
    try:
        module = trainable(model, rows.output)
    except PassFailed:
        return None
    places = np.arange(min(_ASKED_ROWS, rows.count))
    some = gather(rows, names_of(module, rows), places)
    with torch.no_grad():
        said = module.tensors(some.inputs, [rows.output])[rows.output]
    wanted = some.answers[rows.output]
    is_it = said.shape == wanted.shape and bool(torch.allclose(said.double(), wanted.double(), rtol=_CLOSE, atol=_CLOSE))
    return module.requires_grad_(False) if is_it else None


def _regressor(its: Tensor, theirs: Tensor) -> nn.Module:
    if its.dim() != theirs.dim() or (its.dim() == 4 and its.shape[2:] != theirs.shape[2:]):
        raise PassFailed(f"Tensors of {list(its.shape[1:])} and {list(theirs.shape[1:])} cannot be made alike.")
    if its.dim() == 4:
        return nn.Conv2d(its.shape[1], theirs.shape[1], 1)
    return nn.Linear(its.shape[-1], theirs.shape[-1])


def _cost(student: Any, teacher: Any) -> str:
    costs = [multiply_adds(student), multiply_adds(teacher)]
    sizes = [parameters(student), parameters(teacher)]
    return f"{sizes[0]:,} parameters and {costs[0]:,} multiply-adds, of {sizes[1]:,} and {costs[1]:,}."


def _rows(rows: Rows) -> str:
    count = rows.to_fit
    if rows.truth is None:
        return f"Taught on {count:,} rows, none labelled."
    truth = rows.truth[:count]
    labelled = int((truth != UNKNOWN).sum()) if truth.dtype.kind in "iu" else int((~np.isnan(truth.reshape(count, -1)).any(1)).sum())
    return f"Taught on {count:,} rows, {labelled:,} of them labelled."


def _found(curves: Any, rows: Rows) -> list[str]:
    losses = ", ".join(f"{value:.3g}" for value in curves["loss"])
    notes = [f"Loss per epoch: {losses}."]
    if "validation accuracy" in curves and rows.held_back:
        said = [f"{100 * curves['validation accuracy'][-1]:.1f} % of {rows.held_back:,} rows held back right"]
        said += [f"the teacher {100 * share:.1f} %" for share in _right(rows)]
        notes.append(f"{', '.join(said)}.")
    return notes


def _right(rows: Rows) -> list[float]:
    """The teacher's share of right answers on the rows held back."""
    answers, truth = rows.answers.get(rows.output), rows.truth
    if answers is None or truth is None or answers.ndim != 2 or answers.shape[1] < 2:
        return []
    kept = np.asarray(truth[rows.to_fit :])
    right = answers[rows.to_fit :].argmax(1) == kept
    return [float(right[kept != UNKNOWN].mean())] if (kept != UNKNOWN).any() else []
