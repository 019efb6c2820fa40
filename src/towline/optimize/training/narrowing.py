"""Prune a graph in steps, each followed by a training, each kept as a graph of its own: a kill loses the step it is in, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from torch import Tensor

from towline.optimize.base import Judge, Material, Passed, PassFailed
from towline.optimize.cost import multiply_adds, parameters
from towline.optimize.prune import Prune
from towline.optimize.rows import Rows, open_rows
from towline.optimize.sharing import SHARES, Work, shared, width_of
from towline.optimize.train import rows_of
from towline.optimize.training.batches import gather, names_of, rows_to_fit
from towline.optimize.training.checking import check_answers
from towline.optimize.training.graph import Trainable, trainable
from towline.optimize.training.loop import evaluate, train
from towline.optimize.training.losses import Loss, loss_for
from towline.optimize.training.pruning import Pruner, outputs_of, work_of
from towline.optimize.training.threads import threads_for
from towline.optimize.training.tuning import Lesson, told
from towline.optimize.training.unturning import unturned
from towline.optimize.training.writing import write_trained

# Rows that a layer is tried on, fewer for graphs where that would take long: multiply-adds for all layers together.
_TRIED_ROWS = (32, 512)
_TRIED_WORK = 200_000_000_000
_TAYLOR_BATCHES, _TAYLOR_ROWS = 8, 64
_EXAMPLES = 2

Curves = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Task:
    """What is asked for, what it is learnt from, where what was done is kept, who hears how it goes, and who judges it."""

    asked: Prune
    rows: Rows
    loss: Loss
    keep: Path
    say: Callable[[str], None]
    judge: Judge | None = None


def narrow(asked: Prune, model: Path, into: Path, material: Material) -> Passed:
    """What `Prune` does. Raises PassFailed for a graph none of whose channels can go."""
    rows = open_rows(rows_of(material))
    with TemporaryDirectory() as scratch:
        keep = material.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        model = unturned(model, keep / "unturned.onnx")
        whole = trainable(model, rows.output)
        check_answers(whole, rows)
        words = {"smoothing": asked.training.smoothing, "temperature": asked.temperature, "alpha": asked.alpha}
        task = Task(asked, rows, loss_for(rows, activation=whole.activation, **words), keep, material.say, material.judge)
        before = evaluate(whole, rows, task.loss)
        pruner = _pruner(whole, rows)
        widths = {name: one.count for name, one in pruner.channels.items()}
        curves, kept = _kept(task, whole, pruner)
        at = model
        for step in range(1, asked.steps + 1):
            at, more = _stepped(task, step, at, widths, kept)
            curves |= {name: (*curves.get(name, ()), *values) for name, values in more.items()}
        (into / "model.onnx").write_bytes(at.read_bytes())
        narrowed = trainable(at, rows.output)
        notes = (*_saved(model, at), f"Channels: {_widths(widths, narrowed)}.", *_left(pruner))
        return Passed("model.onnx", (*notes, *told(Lesson(narrowed, rows, task.loss, before), curves)), curves)


def _pruner(module: Trainable, rows: Rows) -> Pruner:
    pruner = Pruner(module, _example(module, rows))
    if not pruner.channels:
        why = f": {', '.join(pruner.refused[:5])} cannot lose channels without changing more" if pruner.refused else ""
        raise PassFailed(f"No layer of this graph has channels that can be taken out{why}.")
    return pruner


def _example(module: Trainable, rows: Rows) -> tuple[Tensor, ...]:
    """The first rows, as the module takes them."""
    return tuple(gather(rows, names_of(module, rows), np.arange(min(_EXAMPLES, rows.count))).inputs)


def _kept(task: Task, whole: Trainable, pruner: Pruner) -> tuple[Curves, dict[str, int]]:
    """How many channels of each layer stay in the end, with what was measured for it."""
    asked, widths = task.asked, {name: one.count for name, one in pruner.channels.items()}
    unknown = sorted({name for name, _ in asked.layers} - {*widths})
    if unknown:
        raise PassFailed(f"'{unknown[0]}' is no layer whose channels can be taken out. These are: {', '.join(widths)}.")
    by_hand = {name: width_of(widths[name], ratio, asked.multiple) for name, ratio in asked.layers}
    if not asked.guided:
        return {}, {name: width_of(count, asked.ratio, asked.multiple) for name, count in widths.items()} | by_hand
    work = work_of(whole, _example(whole, task.rows))
    rises = _rises(task, whole, pruner, work)
    kept = shared(rises, _works(pruner, work), widths, ratio=asked.ratio, multiple=asked.multiple)
    return {f"sensitivity of {name}": tuple(one) for name, one in rises.items()}, kept | by_hand


def _works(pruner: Pruner, work: Mapping[str, int]) -> list[Work]:
    """Each layer, with the groups of channels that decide what it costs."""
    channels = pruner.channels.values()
    makes = {name: one.layer for one in channels for name in (one.layer, *one.others)}
    reads = {name: tuple((one.layer, share) for one in channels for reader, share in one.readers if reader == name) for name in work}
    return [Work(count, makes.get(name, ""), reads[name]) for name, count in work.items()]


def _rises(task: Task, whole: Trainable, pruner: Pruner, work: Mapping[str, int]) -> Mapping[str, tuple[float, ...]]:
    """By how much the loss rises when SHARES of one layer's channels go; kept, since it takes long."""
    done = task.keep / "sensitivity.json"
    if done.exists():
        return {name: tuple(values) for name, values in json.loads(done.read_text()).items()}
    fewest, most = _TRIED_ROWS
    tries = sum(work.values()) * len(SHARES) * len(pruner.channels)
    some = _some(task.rows, min(most, max(fewest, _TRIED_WORK // max(1, tries))))
    rises: dict[str, tuple[float, ...]] = {}
    with threads_for(whole, gather(some, names_of(whole, some), np.arange(1)), some.count):
        base, _ = evaluate(whole, some, task.loss)
        order = _order(task, whole, pruner)
        for place, (name, one) in enumerate(pruner.channels.items()):
            found = []
            for share in SHARES:
                with pruner.silenced(name, order[name][: int(one.count * share)]):
                    found.append(evaluate(whole, some, task.loss)[0] - base)
            rises[name] = tuple(found)
            task.say(f"layer {place + 1} of {len(pruner.channels)}, {name}: without half of it the loss rises by {found[1]:.3g}")
    _write_whole(done, json.dumps(rises))
    return rises


def _some(rows: Rows, count: int) -> Rows:
    """So many of the rows held back, as rows of which all are; without any, of the first."""
    first = rows.to_fit if rows.held_back else 0
    chosen = slice(first, min(rows.count, first + count))
    inputs = {name: array[chosen] for name, array in rows.inputs.items()}
    answers = {name: array[chosen] for name, array in rows.answers.items()}
    truth = None if rows.truth is None else rows.truth[chosen]
    return Rows(inputs, truth, answers, rows.output, len(next(iter(inputs.values()))))


def _order(task: Task, module: Trainable, pruner: Pruner) -> dict[str, list[int]]:
    if task.asked.importance == "taylor":
        _gradients(task, module)
    found = pruner.order(task.asked.importance)
    module.zero_grad(set_to_none=True)
    return found


def _gradients(task: Task, module: Trainable) -> None:
    """Those of the loss on the first rows, added up in the weights."""
    module.eval().zero_grad(set_to_none=True)
    places = rows_to_fit(task.rows, labelled_only=getattr(task.loss, "labelled_only", False))[: _TAYLOR_BATCHES * _TAYLOR_ROWS]
    for first in range(0, len(places), _TAYLOR_ROWS):
        batch = gather(task.rows, names_of(module, task.rows), places[first : first + _TAYLOR_ROWS])
        task.loss(module(*batch.inputs), batch).backward()
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad


def _stepped(task: Task, step: int, model: Path, widths: Mapping[str, int], kept: Mapping[str, int]) -> tuple[Path, Curves]:
    """The graph after this step, from `keep` where it was done before."""
    done, steps = task.keep / f"step-{step}", task.asked.steps
    if (done / "curves.json").exists():
        curves = json.loads((done / "curves.json").read_text())
        return done / "model.onnx", {name: tuple(values) for name, values in curves.items()}
    module = trainable(model, task.rows.output)
    pruner = _pruner(module, task.rows)
    order = _order(task, module, pruner)
    for name, one in pruner.channels.items():
        before = widths.get(name, one.count)
        # As much in each step; to a multiple only in the last.
        wanted = before - (before - kept.get(name, before)) * step // steps
        pruner.take(name, order[name][: max(0, one.count - wanted)])
    task.say(f"step {step} of {steps}: {_widths(widths, module)}")
    training = task.keep / f"training-{step}"
    for folder in (done, training):
        folder.mkdir(exist_ok=True)
    _check_other_outputs(write_trained(module, model, done))
    learnt = train(module, task.rows, task.asked.training, task.loss, keep=training, say=task.say, judge=task.judge)
    write_trained(module, model, done)
    # Last: without it the step was not done.
    _write_whole(done / "curves.json", json.dumps(learnt))
    return done / "model.onnx", dict(learnt)


def _check_other_outputs(model: Path) -> None:
    """Only what the answer needs was looked at; raises PassFailed when another output reads channels that are gone."""
    proto = onnx.load(model)
    if len(proto.graph.output) > 1:
        try:
            onnx.checker.check_model(proto, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            told = str(error).strip().splitlines()[0][:160]
            raise PassFailed(f"Another output of the graph reads channels that were taken out: {told}") from error


def _write_whole(path: Path, text: str) -> None:
    """A kill leaves the file as it was, or as it is to be."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def _widths(before: Mapping[str, int], module: Trainable) -> str:
    now = {name: outputs_of(layer) for name, layer in module.layers.items() if name in before}
    return ", ".join(f"{name} {before[name]} to {now[name]}" for name in before)


def _saved(before: Path, after: Path) -> tuple[str, ...]:
    was, now = onnx.load(before), onnx.load(after)
    return (
        f"{parameters(was):,} parameters became {parameters(now):,}, {multiply_adds(was):,} multiply-adds a row {multiply_adds(now):,}.",
    )


def _left(pruner: Pruner) -> tuple[str, ...]:
    if not pruner.refused:
        return ()
    return (f"Left whole, since other layers would have changed as well: {', '.join(pruner.refused)}.",)
