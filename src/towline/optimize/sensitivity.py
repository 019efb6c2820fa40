"""Which operators lose the most when they are quantised: each alone, and how far the outputs then move.

The measure is the signal-to-quantisation-noise ratio of the outputs, 10 log10(sum x² / sum (x - x')²) in dB: the less, the guiltier.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from towline.optimize.base import Arrays, PassFailed
from towline.optimize.qdq import QUANTISED, prepared, quantising, ranges, write_pairs
from towline.optimize.quantize import Int8

MAX_OPERATORS = 400
# Measured on MobileNetV2: an operator in float between integers costs its conversions, a nanosecond a value, more than its products.
VALUE = 30
# Of an operator whose noise drowns the outputs it does not matter by how much.
MOST_DB = 120.0
MAX_ANSWER_BYTES = 4 << 20
# Labelled rows that tell what is lost, beside those that calibrate.
MOST_ROWS = 1000
# Products, and values by VALUE, of all operators and rows together: about a minute or two.
MOST_WORK = 2e12


@dataclass(frozen=True)
class Loss:
    """By how much answers to `rows` labelled rows become worse by a figure, as a share or in the figure's own unit. It lies between `low`
    and `high` with 95 % confidence; what is below 0 is gained."""

    figure: str
    lost: float
    low: float
    high: float
    rows: int
    is_share: bool = True

    def words(self) -> str:
        lost = f"{100 * self.lost:.2f} pt" if self.is_share else f"{self.lost:.3g}"
        return f"{lost} of {self.figure} on {self.rows} rows"


@dataclass(frozen=True)
class Sensitivity:
    """One operator: dB of the outputs with only this one quantised, and the share of rows whose greatest output moved. `cost` is about what
    it takes to leave it in float: products of one row, and each value read or written as much as VALUE of those. `loss` is None where
    nobody knows what is right."""

    operator: str
    kind: str
    sqnr_db: float
    moved: float
    cost: float = 1.0
    loss: Loss | None = None

    @property
    def noise(self) -> float:
        """For each unit of signal: noises of operators add up, dB do not."""
        return float(10 ** (-max(self.sqnr_db, -MOST_DB) / 10))

    @property
    def sure_loss(self) -> float:
        """What is lost whatever chance did to the rows; 0 where nothing surely is."""
        return max(self.loss.low, 0.0) if self.loss is not None else 0.0


def guiltiest(found: Sequence[Sensitivity]) -> list[Sensitivity]:
    """Those first that gain most by staying in float, for what it costs: by their share of all noise and of all sure losses. Pure."""
    noise, lost = sum(one.noise for one in found) or 1.0, sum(one.sure_loss for one in found) or 1.0
    return sorted(found, key=lambda one: (-(one.noise / noise + one.sure_loss / lost) / one.cost, one.operator))


def sensitivities(
    model: Path, scratch: Path, calibration: Sequence[Arrays], how: Int8, output: str = "", more: Iterable[Arrays] = ()
) -> Iterator[Sensitivity]:
    """Of each operator that a CPU gains by, in the order of the graph. Raises PassFailed for a graph that cannot be quantised.

    Where an `output` is named, its answers to the rows lie in `scratch`, as answers_file names them: in float, and of each that was given.
    `more` are batches that do not calibrate and are answered too, as far as MOST_WORK allows.
    """
    import onnx

    whole = prepared(model, scratch)
    graph = onnx.load(whole).graph
    costs = {node.name: cost for node, cost in _costs(graph)}
    nodes = [(node.name, node.op_type) for node in graph.node if node.name in costs][:MAX_OPERATORS]
    rows = [*calibration, *itertools.islice(more, _affordable(costs.values(), calibration))]
    expected = answers(whole, rows)
    place = [one.name for one in graph.output].index(output) if output else None
    _keep(scratch, None, expected, place)
    given = 0
    with quantising():
        seen = ranges(whole, calibration, how.calibration)
    for name, kind in nodes:
        try:
            with quantising():
                write_pairs(whole, scratch / "alone.onnx", seen, how.scheme, [other for other, _ in nodes if other != name])
        except PassFailed:
            continue
        got = answers(scratch / "alone.onnx", rows)
        _keep(scratch, given, got, place)
        given += 1
        yield Sensitivity(name, kind, sqnr_db(expected, got), moved(expected, got), costs[name])


def _affordable(costs: Collection[float], calibration: Sequence[Arrays]) -> int:
    """Batches beyond those that calibrate: each is answered by a graph per operator."""
    rows = len(next(iter(calibration[0].values())))
    return max(0, int(MOST_WORK / max(1.0, sum(costs) * len(costs) * rows)) - len(calibration))


def answers_file(scratch: Path, number: int | None) -> Path:
    """Of the operator that was given as `number`, from 0; None: of the graph in float."""
    return scratch / f"answers-{'float' if number is None else number}.npy"


def _keep(scratch: Path, number: int | None, got: Sequence[np.ndarray], place: int | None) -> None:
    """As many rows as are few bytes: one waits here for whoever reads it, of each operator."""
    if place is not None:
        answered = got[place]
        rows = max(1, MAX_ANSWER_BYTES // max(1, answered[:1].nbytes))
        np.save(answers_file(scratch, number), answered[:rows], allow_pickle=False)


def _costs(graph: Any) -> Iterator[tuple[Any, float]]:
    """Of each product in an onnx.GraphProto, for one row; a length that nobody knows counts as one."""
    known = (*graph.value_info, *graph.input, *graph.output)
    values = {one.name: math.prod([side.dim_value or 1 for side in one.type.tensor_type.shape.dim][1:]) for one in known}
    weights = {one.name: list(one.dims) for one in graph.initializer}
    for node in graph.node:
        if node.op_type in QUANTISED:
            read, written = values.get(node.input[0], 1), values.get(node.output[0], 1)
            yield node, float(_products(node.op_type, weights.get(node.input[1], [1]), read, written) + VALUE * (read + written))


def _products(kind: str, weight: Sequence[int], read: int, written: int) -> int:
    if kind == "Gemm":
        return math.prod(weight)
    if kind == "MatMul":
        return written * weight[0]
    return (written if kind == "Conv" else read) * math.prod(weight[1:])


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
