"""The training loop that fine-tuning, pruning, distillation and quantisation-aware training share.

Chance at a step follows from the seed and the step alone, so that a run that was killed goes on from its checkpoint as if nothing had been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from towline.optimize.base import Judge, PassFailed
from towline.optimize.rows import Rows
from towline.optimize.training.augment import augmenter_for
from towline.optimize.training.batches import Batch, batch_count, epoch_order, gather, held_back, names_of, rows_to_fit, seed_of
from towline.optimize.training.checking import check_answers
from towline.optimize.training.checkpoint import identity, read_checkpoint, write_checkpoint
from towline.optimize.training.losses import Loss, answered, class_axis
from towline.optimize.training.optimizers import optimizer_for, schedule_for, shrink
from towline.optimize.training.settings import Training, check_training
from towline.optimize.training.threads import threads_for

CHECKPOINT_S = 30.0
AfterStep = Callable[[int, int], None]


@dataclass
class Standing:
    """How far a training is: all that a checkpoint holds beside the state of modules and optimiser."""

    epoch: int = 0
    batch: int = 0
    # Of this epoch so far: the losses of its rows, and how many these were.
    lost: float = 0.0
    seen: int = 0
    curves: dict[str, list[float]] = field(default_factory=lambda: {"loss": []})
    best: float = math.inf
    worse: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def train(
    module: nn.Module,
    rows: Rows,
    settings: Training,
    loss: Loss,
    *,
    keep: Path | None,
    say: Callable[[str], None],
    after_step: AfterStep | None = None,
    judge: Judge | None = None,
    checkpoint_s: float = CHECKPOINT_S,
) -> dict[str, tuple[float, ...]]:
    """Fit the module to `rows`, all but those held back, and give its curves: per epoch "loss", and with rows held back "validation" and
    for classes "validation accuracy" (0 to 1); what a `judge` says of the answers to these is a curve too, and tells which epoch is best.

    The module is left in eval mode with its last weights; with `settings.patience`, with those of the epoch that validated best.
    `module(*inputs)` gives logits. `after_step(done, of)` is called after each step of the optimiser. A `loss` or `after_step` that is an
    nn.Module is trained and kept along. `keep` is a folder that holds a checkpoint after each epoch, and every `checkpoint_s` seconds
    within one: the same call, made again after a kill with a module made as the first time, goes on there and ends with the same weights.

    Raises PassFailed when a setting is odd, when there is nothing to fit to, when the truth or the augmentation does not fit the module,
    and when the loss is no number any more.
    """
    check_training(settings)
    places = rows_to_fit(rows, labelled_only=getattr(loss, "labelled_only", False))
    if not len(places):
        raise PassFailed("There is no row to train on.", hint="Give rows with labels, more of them, or a teacher.")
    check_answers(module, rows)
    run = _Run(module, rows, settings, loss, after_step, judge, keep, say, checkpoint_s)
    with threads_for(module, gather(rows, names_of(module, rows), np.arange(1)), settings.batch), torch.random.fork_rng(devices=[]):
        return run.through(places)


def evaluate(module: nn.Module, rows: Rows, loss: Loss, batch: int = 256) -> tuple[float, float | None]:
    """The mean loss over the rows held back, and the share of those with the right class; None where truth is no classes.

    The module is asked as it is when it serves (eval mode) and left in the mode it was in.
    """
    trained = module.training
    module.eval()
    lost = right = counted = seen = 0.0
    with torch.no_grad():
        for one in held_back(rows, names_of(module, rows), batch):
            logits = module(*one.inputs)
            lost += float(loss(logits, one)) * one.size
            seen += one.size
            for hit in _hits(logits, one):
                right, counted = right + float(hit.sum()), counted + hit.numel()
    module.train(trained)
    return lost / max(seen, 1), right / counted if counted else None


def answers_held_back(module: nn.Module, rows: Rows, batch: int = 256) -> np.ndarray:
    """What the graph answers to the rows held back, as it does when it serves: behind its last activation."""
    activation = getattr(module, "activation", "")
    with torch.no_grad():
        parts = [answered(module(*one.inputs), activation) for one in held_back(rows, names_of(module, rows), batch)]
    return torch.cat(parts).numpy()


def _hits(logits: Tensor, batch: Batch) -> list[Tensor]:
    """Whether each row of known class is right; empty where truth is no classes."""
    truth = batch.truth
    if truth is None or truth.is_floating_point():
        return []
    same = logits.numel() == truth.numel()
    said = (logits.reshape(truth.shape) > 0).long() if same else logits.argmax(class_axis(logits.shape, truth.shape))
    return [(said == truth)[truth >= 0]]


class _Run:
    """One training under way."""

    def __init__(
        self,
        module: nn.Module,
        rows: Rows,
        settings: Training,
        loss: Loss,
        after_step: AfterStep | None,
        judge: Judge | None,
        keep: Path | None,
        say: Callable[[str], None],
        checkpoint_s: float,
    ) -> None:
        self._module, self._rows, self._settings, self._loss, self._after_step = module, rows, settings, loss, after_step
        self._judge, self._keep, self._say, self._checkpoint_s = judge, keep, say, checkpoint_s
        # In one list, so that the optimiser and the checkpoint hold them all.
        self._learning = nn.ModuleList([module, *(one for one in (loss, after_step) if isinstance(one, nn.Module))])
        self._names = names_of(module, rows)
        self._augment = augmenter_for(settings.augment, self._names, rows) if settings.augment else None
        self._at = Standing()

    def through(self, places: Any) -> dict[str, tuple[float, ...]]:
        """From the start, or from the checkpoint, to the end."""
        each = batch_count(len(places), self._settings.batch)
        self._steps = each * self._settings.epochs
        self._optimizer = optimizer_for(self._learning, self._settings)
        self._schedule = schedule_for(self._optimizer, self._settings, self._steps)
        self._resume()
        self._begun, self._first_step = time.monotonic(), self._at.epoch * each + self._at.batch
        self._saved = self._begun
        while self._at.epoch < self._settings.epochs and not self._is_enough():
            order = epoch_order(places, self._settings.batch, self._settings.seed, self._at.epoch)
            self._learning.train()
            while self._at.batch < len(order):
                self._step(gather(self._rows, self._names, order[self._at.batch]), self._at.epoch * each + self._at.batch)
                self._at.batch += 1
                if self._at.batch < len(order) and time.monotonic() - self._saved >= self._checkpoint_s:
                    self._save()
                    self._say_so_far(self._at.epoch * each + self._at.batch, self._at.batch / len(order))
            self._end_epoch((self._at.epoch + 1) * each)
        if self._at.best_weights:
            self._learning.load_state_dict(self._at.best_weights)
        self._learning.eval()
        return {name: tuple(values) for name, values in self._at.curves.items()}

    def _step(self, batch: Batch, step: int) -> None:
        torch.manual_seed(seed_of(self._settings.seed, self._at.epoch, self._at.batch))
        if self._augment is not None:
            batch = self._augment(batch, torch.default_generator)
        value = self._loss(self._module(*batch.inputs), batch)
        lost = value.item()
        self._refuse_unless_finite(lost, "loss")
        self._optimizer.zero_grad(set_to_none=True)
        value.backward()
        rate = self._optimizer.param_groups[0]["lr"]
        self._optimizer.step()
        if self._settings.l1:
            shrink(self._learning, rate * self._settings.l1)
        self._schedule.step()
        if self._after_step is not None:
            self._after_step(step + 1, self._steps)
        self._at.lost += lost * batch.size
        self._at.seen += batch.size

    def _end_epoch(self, done: int) -> None:
        at = self._at
        self._learning.eval()
        at.curves["loss"].append(at.lost / at.seen)
        line = f"loss {at.curves['loss'][-1]:.4g}"
        if self._rows.held_back:
            validation, accuracy = evaluate(self._module, self._rows, self._loss, self._settings.batch)
            self._refuse_unless_finite(validation, "validation loss")
            at.curves.setdefault("validation", []).append(validation)
            line += f", validation {validation:.4g}"
            if accuracy is not None:
                at.curves.setdefault("validation accuracy", []).append(accuracy)
                line += f", {100 * accuracy:.1f} % right"
            if self._judge is not None:
                value = self._judge.of(answers_held_back(self._module, self._rows, self._settings.batch))
                # Accuracy may be there already.
                at.curves[f"validation {self._judge.name}"] = [*at.curves.get(f"validation {self._judge.name}", ())[: at.epoch], value]
                line += f", {self._judge.name} {value:.4g}"
                validation = -value if self._judge.is_higher_better else value
            self._remember(validation)
        at.epoch, at.batch, at.lost, at.seen = at.epoch + 1, 0, 0.0, 0
        self._save()
        self._say(f"epoch {at.epoch} of {self._settings.epochs}: {line}, {self._left_s(done):.0f} s left")

    def _say_so_far(self, done: int, share: float) -> None:
        """Within an epoch, so that a long one is not silent."""
        at, lost = self._at, self._at.lost / self._at.seen
        words = f"epoch {at.epoch + 1} of {self._settings.epochs}, {100 * share:.0f} % of it: loss {lost:.4g}"
        self._say(f"{words}, {self._left_s(done):.0f} s left")

    def _left_s(self, done: int) -> float:
        return (time.monotonic() - self._begun) / max(1, done - self._first_step) * (self._steps - done)

    def _refuse_unless_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise PassFailed(
                f"The {what} in epoch {self._at.epoch + 1} is {value}: the learning rate {self._settings.rate:g} is too large.",
                hint=f"Train with a rate of {self._settings.rate / 10:g}.",
            )

    def _remember(self, validation: float) -> None:
        """Keep the weights when they are the best yet, where the best are asked for."""
        if not self._settings.patience:
            return
        if validation < self._at.best:
            weights = {name: tensor.clone() for name, tensor in self._learning.state_dict().items()}
            self._at.best, self._at.worse, self._at.best_weights = validation, 0, weights
        else:
            self._at.worse += 1

    def _is_enough(self) -> bool:
        return 0 < self._settings.patience <= self._at.worse

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self._keep is None:
            return
        parts = {"learning": self._learning, "optimizer": self._optimizer, "schedule": self._schedule}
        states = {name: part.state_dict() for name, part in parts.items()}
        write_checkpoint(self._keep, self._whose, {**states, "at": dict(vars(self._at))})

    def _resume(self) -> None:
        if self._keep is None:
            return
        judged = (self._judge.identity,) if self._judge is not None else ()
        self._whose = identity(self._learning, self._rows, (self._settings, _told(self._loss), _told(self._after_step), *judged))
        state = read_checkpoint(self._keep, self._whose)
        if state is None:
            return
        self._learning.load_state_dict(state["learning"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._at = Standing(**state["at"])
        self._say(f"goes on after {self._at.epoch} of {self._settings.epochs} epochs")


def _told(part: Any) -> str:
    """What it is, alike in another process: a function's repr tells where it lies in memory."""
    return getattr(part, "__qualname__", None) or repr(part)
