"""Train a quantised graph: its floats with roundings where its pairs are, and the numbers they end with written into its pairs."""

from __future__ import annotations

from pathlib import Path

import onnx

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.pairs import read_pairs, rewrite
from towline.optimize.qat import FLOATS, Qat
from towline.optimize.rows import open_rows
from towline.optimize.training.graph import trainable
from towline.optimize.training.loop import evaluate, train
from towline.optimize.training.losses import loss_for
from towline.optimize.training.reading import read_proto
from towline.optimize.training.rounding import round_as, stop_rounding
from towline.optimize.training.writing import write_trained


def train_quantized(chosen: Qat, model: Path, into: Path, material: Material) -> Passed:
    """`model` is what int8 wrote, its floats beside it. Raises PassFailed."""
    assert material.rows is not None
    rows = open_rows(material.rows)
    floats = model.parent / FLOATS
    if not floats.is_file():
        raise PassFailed("Training with rounded numbers starts from what int8 writes: it follows int8 in a chain.")
    quantized = onnx.load(model)
    module = trainable(floats, rows.output)
    pairs = read_pairs(quantized)
    made = round_as(module, read_proto(floats), pairs, learn=chosen.ranges == "learnt")
    training = chosen.training
    loss = loss_for(rows, activation=module.activation, smoothing=training.smoothing, temperature=chosen.temperature, alpha=chosen.alpha)
    before = evaluate(module, rows, loss, training.batch) if rows.held_back else None
    curves = train(module, rows, training, loss, keep=material.keep, say=material.say, judge=material.judge)
    after = evaluate(module, rows, loss, training.batch) if rows.held_back else None
    scales = {name: one.scale for name, one in made.items()}
    stop_rounding(module, pairs)
    rewrite(quantized, onnx.load(write_trained(module, floats, into)), scales)
    onnx.save(quantized, into / "model.onnx")
    return Passed("model.onnx", _notes(before, after), curves)


def _notes(before: tuple[float, float | None] | None, after: tuple[float, float | None] | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    if before[1] is None or after[1] is None:
        return (f"On rows held back, rounded: the loss was {before[0]:.4g} and became {after[0]:.4g}.",)
    return (f"Of the rows held back, rounded, {100 * before[1]:.2f} % were right and became {100 * after[1]:.2f} %.",)
