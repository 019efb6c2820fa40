"""Which operators lose the most when they are quantised: each alone, and how far the outputs then move.

The measure is the signal-to-quantisation-noise ratio of the outputs, 10 log10(sum x² / sum (x - x')²) in dB: the less, the guiltier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from towline.optimize.base import Arrays, Material, PassFailed
from towline.optimize.quantize import QUANTISED, Int8, prepared

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
    import onnxruntime as ort

    whole = prepared(model, scratch)
    nodes = [(node.name, node.op_type) for node in onnx.load(whole).graph.node if node.op_type in QUANTISED][:MAX_OPERATORS]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    expected = _answers(ort.InferenceSession(str(whole), options, providers=["CPUExecutionProvider"]), calibration)
    for place, (name, kind) in enumerate(nodes):
        folder = scratch / f"alone-{place}"
        folder.mkdir()
        alone = replace(how, floats=tuple(other for other, _ in nodes if other != name))
        try:
            written = folder / alone.run(whole, folder, Material(calibration)).model
        except PassFailed:
            continue
        got = _answers(ort.InferenceSession(str(written), options, providers=["CPUExecutionProvider"]), calibration)
        yield Sensitivity(name, kind, sqnr_db(expected, got), moved(expected, got))
        written.unlink()


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


def _answers(session: object, calibration: Sequence[Arrays]) -> list[np.ndarray]:
    runs = [session.run(None, dict(batch)) for batch in calibration]  # type: ignore[attr-defined]
    return [np.concatenate([np.atleast_1d(run[place]) for run in runs]) for place in range(len(runs[0]))]
