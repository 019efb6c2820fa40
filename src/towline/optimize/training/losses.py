"""What a training makes small: how far the module is from the truth, from a teacher, or from both.

Hard, of classes: cross entropy, labels smoothed as (1 - e) y + e / classes (Szegedy et al. 2016, "Rethinking the Inception Architecture for
Computer Vision"). Hard, of targets: mean squared error. Soft (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"):
    T² KL(softmax(t / T) || softmax(z / T))
with the teacher's logits t, the module's z and the temperature T; T² keeps the gradient as large as that of the hard loss. Where several
labels may be right together, each is a yes or no of its own: T² times the cross entropy of sigmoid(z / T) and sigmoid(t / T), their mean.

A loss is called with the module's logits and the batch, and gives a mean over rows. One that is an nn.Module is trained along with the
module, and kept in its checkpoints. With `labelled_only`, rows that nobody has labelled are not even drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from towline.optimize.base import PassFailed
from towline.optimize.rows import UNKNOWN, Rows
from towline.optimize.training.batches import Batch

# Nothing less has a logarithm in float32.
_LEAST = torch.finfo(torch.float32).tiny
# A chance that is nearer to 0 or 1 has no logit worth telling apart.
_SURE = 1e-7
# What answers are is told by the first rows.
_TELLING_ROWS = 256

Question = Literal["classes", "labels", "values"]


class Loss(Protocol):
    """Frozen and with a repr that tells its settings, or an nn.Module: a checkpoint is taken up by the same loss only."""

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """A scalar, the mean over the rows of the batch. `logits` are what comes before a final Softmax or Sigmoid."""
        ...


@dataclass(frozen=True)
class Hard:
    """Against the truth: cross entropy for classes, squared error for targets. Rows of unknown truth count nothing.

    `activation` is what the graph does with the logits: "softmax", "sigmoid" or nothing.
    """

    activation: str = ""
    smoothing: float = 0.0
    labelled_only = True

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        values, counts = self.per_row(logits, batch)
        return values.sum() / counts.sum().clamp(min=1)

    def per_row(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of each element of the truth, 0 where nobody knows it, and whether it counts."""
        truth = batch.truth
        assert truth is not None
        if truth.is_floating_point():
            predicted = _shaped(answered(logits, self.activation), truth)
            counts = ~truth.isnan()
            return torch.where(counts, predicted - truth.nan_to_num(), 0.0).square(), counts
        counts = truth != UNKNOWN
        if logits.numel() == truth.numel():
            wanted = truth.clamp(min=0).to(logits.dtype) * (1 - self.smoothing) + self.smoothing / 2
            values = F.binary_cross_entropy_with_logits(_shaped(logits, truth), wanted, reduction="none")
            return torch.where(counts, values, 0.0), counts
        logits = logits.movedim(class_axis(logits.shape, truth.shape), 1)
        return F.cross_entropy(logits, truth, ignore_index=UNKNOWN, label_smoothing=self.smoothing, reduction="none"), counts


@dataclass(frozen=True)
class Soft:
    """Against a teacher's answers in `output`, softened by the temperature: `of` classes along `axis`, one of which is right, or of labels,
    each right or not; as probabilities or as logits. Of values, squared error. `activation` is what the graph does with its logits.
    """

    output: str
    temperature: float = 4.0
    activation: str = ""
    probabilities: bool = False
    of: Question = "classes"
    axis: int = 1

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        answers = batch.answers[self.output].to(logits.dtype)
        if self.of == "values":
            return F.mse_loss(_shaped(answered(logits, self.activation), answers), answers)
        heat = self.temperature
        if self.of == "labels":
            taught = torch.logit(answers, eps=_SURE) if self.probabilities else answers
            wanted = torch.sigmoid(_shaped(taught, logits) / heat)
            return F.binary_cross_entropy_with_logits(logits / heat, wanted) * heat**2
        taught = answers.clamp(min=_LEAST).log() if self.probabilities else answers
        student, teacher = (F.log_softmax(each / heat, self.axis) for each in (logits, taught))
        return F.kl_div(student, teacher, log_target=True, reduction="none").sum(self.axis).mean() * heat**2


@dataclass(frozen=True)
class Blend:
    """`alpha` of the soft loss and the rest of the hard one. Every row weighs the same: one without truth counts only by its teacher."""

    hard: Hard
    soft: Soft
    alpha: float

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        values, counts = self.hard.per_row(logits, batch)
        return self.alpha * self.soft(logits, batch) + (1 - self.alpha) * values.sum() / counts.numel()


def loss_for(rows: Rows, *, activation: str = "", smoothing: float = 0.0, temperature: float = 4.0, alpha: float = 0.5) -> Loss:
    """The loss that these rows allow: of the truth without a teacher (or alpha 0), of the teacher without truth (or alpha 1), else both.

    `activation` as Trainable has it. Raises PassFailed when the rows have neither truth nor answers, and for
    an odd alpha or temperature.
    """
    if not (0 <= alpha <= 1 and temperature > 0):
        raise PassFailed(f"alpha lies between 0 and 1 and temperature above 0, not at {alpha:g} and {temperature:g}.")
    taught, told = rows.output in rows.answers and alpha > 0, rows.truth is not None and alpha < 1
    if rows.truth is None and not taught:
        raise PassFailed("Training needs rows with labels, or a teacher's answers.", hint="Name the column of labels, or a teacher.")
    hard = Hard(activation, smoothing)
    if not taught:
        return hard
    answers = np.asarray(rows.answers[rows.output][:_TELLING_ROWS], np.float64)
    of, axis = question_of(answers, rows.truth, activation), probability_axis(answers)
    chances = are_chances(answers) if of == "labels" else axis is not None
    soft = Soft(rows.output, temperature, activation, chances, of, 1 if axis is None else axis)
    return Blend(hard, soft, alpha) if told else soft


def question_of(answers: np.ndarray, truth: np.ndarray | None, activation: str) -> Question:
    """What a teacher answers: the truth tells, else what the answers are, and where neither does they are taken for values.

    Of labels are as many whole numbers as answers; so are probabilities behind a sigmoid, where targets are nothing but 0 and 1."""
    if truth is not None and truth.dtype.kind != "f":
        return "labels" if truth[:1].size == answers[:1].size else "classes"
    yes_or_no = truth is None or bool((np.isnan(truth) | np.isin(truth, (0, 1))).all())
    if activation == "sigmoid" and yes_or_no and are_chances(answers):
        return "labels"
    return "classes" if truth is None and probability_axis(answers) is not None else "values"


def are_chances(seen: np.ndarray) -> bool:
    return bool(seen.size and seen.min() >= 0 and seen.max() <= 1)


def probability_axis(seen: np.ndarray) -> int | None:
    """Along which axis a teacher's answers are probabilities of classes; None for logits and values."""
    if not are_chances(seen) or seen[0].size == 1:
        return None
    return next((axis for axis in (1, seen.ndim - 1) if np.abs(seen.sum(axis=axis) - 1).max() < 1e-2), None)


def class_axis(logits: tuple[int, ...], truth: tuple[int, ...]) -> int:
    """Of logits [N, classes, …], or [N, …, classes] where only that goes with the truth [N, …]."""
    return len(logits) - 1 if truth == logits[:-1] and truth != (logits[0], *logits[2:]) else 1


def answered(logits: Tensor, activation: str) -> Tensor:
    """What the graph answers with, of its logits."""
    if activation == "sigmoid":
        return torch.sigmoid(logits)
    return torch.softmax(logits, 1) if activation == "softmax" else logits


def _shaped(tensor: Tensor, like: Tensor) -> Tensor:
    """[N, 1] and [N] are the same column."""
    return tensor.reshape(like.shape) if tensor.numel() == like.numel() else tensor
