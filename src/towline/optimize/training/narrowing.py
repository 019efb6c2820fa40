"""Prune a graph in steps, each followed by a training, each kept as a graph of its own: a kill loses the step it is in, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.cost import multiply_adds, parameters
from towline.optimize.prune import Prune
from towline.optimize.rows import Rows, open_rows
from towline.optimize.sharing import SHARES, Work, shared, width_of
from towline.optimize.training.batches import gather, names_of, rows_to_fit
from towline.optimize.training.graph import Trainable, trainable
from towline.optimize.training.loop import evaluate, train
from towline.optimize.training.losses import Loss, loss_for
from towline.optimize.training.pruning import Pruner
from towline.optimize.training.unturning import unturned
from towline.optimize.training.writing import write_trained

# Rows that a layer is tried on, less for graphs where that many would take long: multiply-adds for all layers together.
_TRIED_ROWS = (32, 512)
_TRIED_WORK = 200_000_000_000
_TAYLOR_BATCHES, _TAYLOR_ROWS = 8, 64
_EXAMPLES = 2

Curves = dict[str, tuple[float, ...]]


def narrow(asked: Prune, model: Path, into: Path, material: Material) -> Passed:
    """What `Prune` does. Raises PassFailed for a graph none of whose channels can go."""
    assert material.rows is not None
    rows = open_rows(material.rows)
    with TemporaryDirectory() as scratch:
        keep = material.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        model = unturned(model, keep / "unturned.onnx")
        started = _started(model, rows)
        loss = loss_for(rows, activation=started.module.activation, smoothing=asked.training.smoothing)
        curves, kept = _kept(asked, started, rows, loss, keep, material.say)
        at = model
        for step in range(1, asked.steps + 1):
            at, more = _stepped(asked, step, at, started, kept, rows, loss, keep, material.say)
            curves |= {name: (*curves.get(name, ()), *values) for name, values in more.items()}
        (into / "model.onnx").write_bytes(at.read_bytes())
        return Passed("model.onnx", _notes(model, into / "model.onnx", rows.output, started), curves)


class Started:
    """The graph as it came: its module, and the channels it has."""

    def __init__(self, model: Path, rows: Rows) -> None:
        self.module = trainable(model, rows.output)
        example = example_of(self.module, rows)
        self.pruner = Pruner(self.module, example)
        self.widths = {name: one.count for name, one in self.pruner.channels.items()}
        self.work = work_of(self.module, example)


def _started(model: Path, rows: Rows) -> Started:
    started = Started(model, rows)
    if not started.widths:
        why = f": {', '.join(started.pruner.refused[:5])} cannot lose channels without changing more" if started.pruner.refused else ""
        raise PassFailed(f"No layer of this graph has channels that can be taken out{why}.")
    return started


def example_of(module: Trainable, rows: Rows) -> tuple[Tensor, ...]:
    """The first rows, as the module takes them."""
    return tuple(gather(rows, names_of(module, rows), np.arange(min(_EXAMPLES, rows.count))).inputs)


def _kept(asked: Prune, started: Started, rows: Rows, loss: Loss, keep: Path, say: Callable[[str], None]) -> tuple[Curves, dict[str, int]]:
    """How many channels of each layer stay in the end, with what was measured for it."""
    by_hand = {name: width_of(started.widths.get(name, 1), ratio, asked.multiple) for name, ratio in asked.layers}
    unknown = sorted({*by_hand} - {*started.widths})
    if unknown:
        raise PassFailed(f"'{unknown[0]}' is no layer whose channels can be taken out. These are: {', '.join(started.widths)}.")
    if not asked.guided:
        return {}, {name: width_of(count, asked.ratio, asked.multiple) for name, count in started.widths.items()} | by_hand
    rises = _rises(asked, started, rows, loss, keep, say)
    kept = shared(rises, _works(started), started.widths, ratio=asked.ratio, multiple=asked.multiple)
    return {f"sensitivity of {name}": tuple(one) for name, one in rises.items()}, kept | by_hand


def _rises(
    asked: Prune, started: Started, rows: Rows, loss: Loss, keep: Path, say: Callable[[str], None]
) -> Mapping[str, tuple[float, ...]]:
    """By how much the loss rises when SHARES of one layer's channels go; kept, since it takes long."""
    kept = keep / "sensitivity.json"
    if kept.exists():
        return {name: tuple(values) for name, values in json.loads(kept.read_text()).items()}
    fewest, most = _TRIED_ROWS
    tries = sum(started.work.values()) * len(SHARES) * len(started.widths)
    some = _some(rows, min(most, max(fewest, _TRIED_WORK // max(1, tries))))
    base, _ = evaluate(started.module, some, loss)
    importance = _importance(asked, started.module, started.pruner, rows, loss)
    rises: dict[str, tuple[float, ...]] = {}
    for place, (name, count) in enumerate(started.widths.items()):
        order = importance[name].argsort().tolist()
        found = []
        for share in SHARES:
            with started.pruner.silenced(name, order[: int(count * share)]):
                found.append(evaluate(started.module, some, loss)[0] - base)
        rises[name] = tuple(found)
        say(f"layer {place + 1} of {len(started.widths)}, {name}: without half of it the loss rises by {found[1]:.3g}")
    written = kept.with_suffix(".new")
    written.write_text(json.dumps(rises))
    written.replace(kept)
    return rises


def _some(rows: Rows, count: int) -> Rows:
    """So many of the rows held back, as rows of which all are; without any, of the first."""
    first = rows.to_fit if rows.held_back else 0
    chosen = slice(first, min(rows.count, first + count))
    inputs = {name: array[chosen] for name, array in rows.inputs.items()}
    answers = {name: array[chosen] for name, array in rows.answers.items()}
    truth = None if rows.truth is None else rows.truth[chosen]
    return Rows(inputs, truth, answers, rows.output, len(next(iter(inputs.values()))))


def _importance(asked: Prune, module: Trainable, pruner: Pruner, rows: Rows, loss: Loss) -> dict[str, Tensor]:
    if asked.importance == "taylor":
        _gradients(module, rows, loss)
    found = pruner.importance(asked.importance)
    module.zero_grad(set_to_none=True)
    return found


def _gradients(module: Trainable, rows: Rows, loss: Loss) -> None:
    """Those of the loss on the first rows, added up in the weights."""
    module.eval().zero_grad(set_to_none=True)
    places = rows_to_fit(rows, labelled_only=getattr(loss, "labelled_only", False))[: _TAYLOR_BATCHES * _TAYLOR_ROWS]
    for first in range(0, len(places), _TAYLOR_ROWS):
        batch = gather(rows, names_of(module, rows), places[first : first + _TAYLOR_ROWS])
        loss(module(*batch.inputs), batch).backward()
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad


def _stepped(
    asked: Prune,
    step: int,
    model: Path,
    started: Started,
    kept: Mapping[str, int],
    rows: Rows,
    loss: Loss,
    keep: Path,
    say: Callable[[str], None],
) -> tuple[Path, Curves]:
    """The graph after this step, from `keep` where it was done before."""
    done = keep / f"step-{step}"
    if (done / "curves.json").exists():
        curves = json.loads((done / "curves.json").read_text())
        return done / "model.onnx", {name: tuple(values) for name, values in curves.items()}
    module = trainable(model, rows.output)
    pruner = Pruner(module, example_of(module, rows))
    importance = _importance(asked, module, pruner, rows, loss)
    for name, one in pruner.channels.items():
        before = started.widths.get(name, one.count)
        # As much in each step; to a multiple only in the last.
        wanted = before - (before - kept.get(name, before)) * step // asked.steps
        pruner.take(name, importance[name].argsort().tolist()[: max(0, one.count - wanted)])
    say(f"step {step} of {asked.steps}: {_widths(started.widths, module)}")
    done.mkdir(exist_ok=True)
    training = keep / f"training-{step}"
    training.mkdir(exist_ok=True)
    curves = train(module, rows, asked.training, loss, keep=training, say=say)
    write_trained(module, model, done)
    # Last: without it the step was not done.
    (done / "curves.json").write_text(json.dumps(curves))
    return done / "model.onnx", dict(curves)


def _widths(before: Mapping[str, int], module: Trainable) -> str:
    now = {name: int(layer.weight.shape[0]) for name, layer in module.layers.items() if name in before}
    return ", ".join(f"{name} {before[name]} to {now[name]}" for name in before)


def _works(started: Started) -> list[Work]:
    """Each layer, with the groups of channels that decide what it costs."""
    channels = started.pruner.channels.values()
    makes = {name: one.layer for one in channels for name in (one.layer, *one.others)}
    reads = {
        name: tuple((one.layer, share) for one in channels for reader, share in one.readers if reader == name) for name in started.work
    }
    return [Work(work, makes.get(name, ""), reads[name]) for name, work in started.work.items()]


def work_of(module: Trainable, example: Sequence[Tensor]) -> dict[str, int]:
    """The multiply-adds of each convolution and dense layer for one row."""
    names = {id(layer): name for name, layer in module.layers.items() if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear))}
    found: dict[str, int] = {}

    def count(layer: nn.Module, _: object, answer: Tensor) -> None:
        one_place = layer.weight.numel() // answer.shape[-1 if isinstance(layer, nn.Linear) else 1]
        found[names[id(layer)]] = answer.numel() // len(example[0]) * one_place

    hooks = [layer.register_forward_hook(count) for layer in module.modules() if id(layer) in names]
    with torch.no_grad():
        module(*example)
    for hook in hooks:
        hook.remove()
    return found


def _notes(before: Path, after: Path, output: str, started: Started) -> tuple[str, ...]:
    was, now = onnx.load(before), onnx.load(after)
    kept = _widths(started.widths, trainable(after, output))
    notes = [
        f"{parameters(was):,} parameters became {parameters(now):,}, {multiply_adds(was):,} multiply-adds a row {multiply_adds(now):,}.",
        f"Channels: {kept}.",
    ]
    if started.pruner.refused:
        notes.append(f"Left whole, since other layers would have changed as well: {', '.join(started.pruner.refused)}.")
    return tuple(notes)
