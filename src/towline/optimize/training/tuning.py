"""Train a graph on as it is, and what every pass that trains does before and after: rows, module, loss, sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from towline.optimize.base import Material, Passed
from towline.optimize.rows import Rows, open_rows
from towline.optimize.train import rows_of
from towline.optimize.training.checking import check_answers
from towline.optimize.training.graph import Trainable, trainable
from towline.optimize.training.loop import evaluate, train
from towline.optimize.training.losses import Loss, loss_for
from towline.optimize.training.settings import Training
from towline.optimize.training.writing import write_trained

if TYPE_CHECKING:
    from towline.optimize.train import Finetune


@dataclass(frozen=True)
class Lesson:
    """A graph as a module, and what it is to learn from. `before` is how it does on the rows held back: its loss, and the share of right
    classes where there are any."""

    module: Trainable
    rows: Rows
    loss: Loss
    before: tuple[float, float | None]


def finetune(chosen: Finetune, model: Path, into: Path, material: Material) -> Passed:
    """Raises PassFailed."""
    lesson = lesson_of(model, material, chosen.training, chosen.temperature, chosen.alpha)
    curves = train(lesson.module, lesson.rows, chosen.training, lesson.loss, keep=material.keep, say=material.say, judge=material.judge)
    written = write_trained(lesson.module, model, into)
    return Passed(written.name, told(lesson, curves), curves)


def lesson_of(model: Path, material: Material, training: Training, temperature: float, alpha: float) -> Lesson:
    """Raises PassFailed for a graph that cannot be trained."""
    rows = open_rows(rows_of(material))
    module = trainable(model, rows.output)
    check_answers(module, rows)
    loss = loss_for(rows, activation=module.activation, smoothing=training.smoothing, temperature=temperature, alpha=alpha)
    return Lesson(module, rows, loss, evaluate(module, rows, loss))


def told(lesson: Lesson, curves: Mapping[str, tuple[float, ...]]) -> tuple[str, ...]:
    """What came of it, in sentences for the report."""
    notes = [f"Loss per epoch: {', '.join(f'{value:.4g}' for value in curves['loss'])}."]
    if lesson.rows.held_back:
        (lost, right), (lost_now, right_now) = lesson.before, evaluate(lesson.module, lesson.rows, lesson.loss)
        words = f"On {lesson.rows.held_back} rows held back, the loss went from {lost:.4g} to {lost_now:.4g}"
        if right is not None and right_now is not None:
            words += f", and {100 * right:.2f} % right became {100 * right_now:.2f} %"
        notes.append(f"{words}.")
    return tuple(notes)
