"""Which operators lose the most when they are quantised: each alone, and how far the outputs then move.

The measure is the signal-to-quantisation-noise ratio of the outputs, 10 log10(sum x² / sum (x - x')²) in dB: the less, the guiltier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from towline.optimize.base import Arrays, PassFailed
from towline.optimize.qdq import QUANTISED, prepared, quantising, ranges, write_pairs
from towline.optimize.quantize import Int8

MAX_OPERATORS = 400


@dataclass(frozen=True)
class Sensitivity:
    """One operator: dB of the outputs with only this one quantised, and the share of rows whose greatest output moved."""

    operator: str
    kind: str
    sqnr_db: float
    moved: float


def sensitivities(model: Path, scratch: Path, calibration: Sequence[Arrays], how: Int8) -> Iterator[Sensitivity]:
    """Of each operator that a CPU gains by, in the order of the graph. Raises PassFailed for a graph that cannot be quantised."""
    import onnx

    whole = prepared(model, scratch)
    nodes = [(node.name, node.op_type) for node in onnx.load(whole).graph.node if node.op_type in QUANTISED][:MAX_OPERATORS]
    expected = answers(whole, calibration)
    with quantising():
        seen = ranges(whole, calibration, how.calibration)
    for name, kind in nodes:
        try:
            with quantising():
                write_pairs(whole, scratch / "alone.onnx", seen, how.scheme, [other for other, _ in nodes if other != name])
        except PassFailed:
            continue
        got = answers(scratch / "alone.onnx", calibration)
        yield Sensitivity(name, kind, sqnr_db(expected, got), moved(expected, got))


def sqnr_db(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    """The least over the outputs; inf where nothing moved. Pure."""
    worst = np.inf
    for first, second in zip(expected, got, strict=True):
        if first.dtype.kind != "f":
            continue
        signal, noise = float((first.astype(np.float64) ** 2).sum()), float(((first.astype(np.float64) - second) ** 2).sum())
        worst = min(worst, 10 * np.log10(signal / noise) if signal and noise else (np.inf if not noise else -np.inf))
    return float(worst)


def moved(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    """The share of rows whose greatest element of the first output is another one. Pure."""
    first, second = expected[0], got[0]
    if first.ndim < 2 or first.shape[-1] < 2:
        return 0.0
    return float((first.argmax(axis=-1) != second.argmax(axis=-1)).mean())


def answers(model: Path, batches: Sequence[Arrays]) -> list[np.ndarray]:
    """Each output of the graph to all rows of the batches."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    runs = [session.run(None, dict(batch)) for batch in batches]
    return [np.concatenate([np.atleast_1d(run[place]) for run in runs]) for place in range(len(runs[0]))]
