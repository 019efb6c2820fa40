"""Zeros among the weights: which, when, and held while the rest is trained. The formulas are in optimize/train.py and in gates.py."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.train import ramp_epochs, share_after
from towline.optimize.training.gates import Gated, GatedLoss
from towline.optimize.training.loop import train
from towline.optimize.training.optimizers import weights_of
from towline.optimize.training.settings import Training
from towline.optimize.training.tuning import Lesson, lesson_of, told
from towline.optimize.training.writing import write_trained

if TYPE_CHECKING:
    from towline.optimize.train import Scope, Sparse

# How often, in steps, a growing share is cut again.
CUT_EVERY = 10
Curves = Mapping[str, tuple[float, ...]]
Say = Callable[[str], None]


class Zeros(nn.Module):
    """Called after each step of the optimiser: what was cut is zero again, and while the share grows, more is cut."""

    def __init__(self, weights: Sequence[nn.Parameter], scope: Scope, share: float, ramp: float) -> None:
        """The share of zeros is reached after `ramp` (0 to 1) of the steps; with 0, nothing is cut beyond what is zero now."""
        super().__init__()
        # In a tuple: they are the trained module's, not this one's.
        self._weights, self._told, self._ramp = tuple(weights), (scope, share), ramp
        for place, weight in enumerate(self._weights):
            self.register_buffer(f"held_{place}", torch.ones_like(weight, dtype=torch.bool) if ramp else weight.detach() != 0)

    def __repr__(self) -> str:
        return f"Zeros{(*self._told, self._ramp)}"

    def forward(self, done: int, of: int) -> None:
        ramp, (scope, share) = round(self._ramp * of), self._told
        with torch.no_grad():
            if done <= ramp and (done % CUT_EVERY == 0 or done == ramp):
                for place, held in enumerate(kept([weight.abs() for weight in self._weights], share_after(done, ramp, share), scope)):
                    self.get_buffer(f"held_{place}").copy_(held)
            for place, weight in enumerate(self._weights):
                weight.mul_(self.get_buffer(f"held_{place}"))


def kept(scores: Sequence[Tensor], share: float, scope: Scope) -> list[Tensor]:
    """Per tensor, true where it is kept: all but this share of the least scores, of all together or of each."""
    if scope == "layer":
        return [_all_but_least([one], share)[0] for one in scores]
    return _all_but_least(scores, share)


def prunable(module: nn.Module) -> list[nn.Parameter]:
    """Kernels and matrices; of vectors, such as the scales of a norm, every element counts."""
    return [weight for weight in weights_of(module) if weight.numel() > max(weight.shape)]


def make_sparse(chosen: Sparse, model: Path, into: Path, material: Material) -> Passed:
    """Raises PassFailed."""
    lesson = lesson_of(model, material, chosen.training, chosen.temperature, chosen.alpha)
    weights = prunable(lesson.module)
    if not weights:
        raise PassFailed("The graph has no kernels and no matrices that could have zeros.")
    if chosen.how == "magnitude":
        curves = _by_magnitude(chosen, lesson, weights, material)
    else:
        curves = _cut_then_trained(chosen, lesson, weights, material)
    written = write_trained(lesson.module, model, into)
    zeros, count = sum(int((one == 0).sum()) for one in weights), sum(one.numel() for one in weights)
    return Passed(written.name, (*told(lesson, curves), *saved(zeros, count, model, written)), curves)


def saved(zeros: int, count: int, before: Path, after: Path) -> tuple[str, ...]:
    """What the zeros are good for, honestly."""
    sizes = [len(zlib.compress(path.read_bytes(), 6)) / 1024 for path in (before, after)]
    return (
        f"{100 * zeros / count:.1f} % of {count:,} weights are zero.",
        f"Compressed (gzip) the model takes {sizes[1]:,.0f} KiB in place of {sizes[0]:,.0f}.",
        "The file as it lies, the memory and the time of an answer stay: ONNX Runtime multiplies zeros like other numbers.",
    )


def _by_magnitude(chosen: Sparse, lesson: Lesson, weights: Sequence[nn.Parameter], material: Material) -> Curves:
    """One training, in whose first epochs the zeros come. Its last weights are taken: the best may be from before."""
    settings = replace(chosen.training, patience=0)
    zeros = Zeros(weights, chosen.scope, chosen.share, ramp_epochs(settings.epochs, chosen.ramp) / settings.epochs)
    return train(
        lesson.module, lesson.rows, settings, lesson.loss, keep=material.keep, say=material.say, after_step=zeros, judge=material.judge
    )


def _cut_then_trained(chosen: Sparse, lesson: Lesson, weights: Sequence[nn.Parameter], material: Material) -> Curves:
    """Two trainings: one that tells which weights matter least, and one with these cut."""
    training = chosen.training
    first = ramp_epochs(training.epochs, chosen.ramp)
    keeps = [material.keep / name if material.keep is not None else None for name in ("cutting", "trained")]
    search = replace(training, epochs=first, patience=0, l1=chosen.penalty if chosen.how == "l1" else 0.0)
    scores, before = (_by_l1 if chosen.how == "l1" else _by_gates)(chosen, search, lesson, weights, keeps[0], material.say)
    with torch.no_grad():
        for weight, held in zip(weights, kept(scores, chosen.share, chosen.scope), strict=True):
            weight.mul_(held)
    material.say(f"{100 * chosen.share:g} % of the weights are cut")
    settled = replace(training, epochs=training.epochs - first)
    zeros = Zeros(weights, chosen.scope, chosen.share, 0.0)
    after = train(lesson.module, lesson.rows, settled, lesson.loss, keep=keeps[1], say=material.say, after_step=zeros, judge=material.judge)
    return {name: (*before.get(name, ()), *after[name]) for name in after}


def _by_l1(
    chosen: Sparse, search: Training, lesson: Lesson, weights: Sequence[nn.Parameter], keep: Path | None, say: Say
) -> tuple[list[Tensor], Curves]:
    curves = train(lesson.module, lesson.rows, search, lesson.loss, keep=keep, say=say)
    return [weight.detach().abs() for weight in weights], curves


def _by_gates(
    chosen: Sparse, search: Training, lesson: Lesson, weights: Sequence[nn.Parameter], keep: Path | None, say: Say
) -> tuple[list[Tensor], Curves]:
    gated = Gated(lesson.module, weights, lesson.rows, chosen.share, chosen.scope)
    loss = GatedLoss(lesson.loss, gated, 1 - chosen.share, chosen.scope)
    # A penalty on weights would be one on gates, and plain gradients of so many gates are too small to move any.
    adam = search.optimizer if search.optimizer in ("adam", "adamw", "adagrad") else "adam"
    curves = train(gated, lesson.rows, replace(search, optimizer=adam, l1=0.0, l2=0.0), loss, keep=keep, say=say)
    return [one.detach() for one in gated.open()], curves


def _all_but_least(scores: Sequence[Tensor], share: float) -> list[Tensor]:
    """By rank and not by a threshold: of equal scores no more go than asked for."""
    flat = torch.cat([one.flatten() for one in scores])
    held = torch.ones(len(flat), dtype=torch.bool)
    held[torch.topk(flat, round(share * len(flat)), largest=False).indices] = False
    return [part.view_as(one) for part, one in zip(held.split([one.numel() for one in scores]), scores, strict=True)]
