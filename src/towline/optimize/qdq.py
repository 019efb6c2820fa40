"""Prepare a graph for eight bits, see what ranges its tensors take, and write the QuantizeLinear/DequantizeLinear pairs into it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from towline.optimize.base import Arrays, PassFailed

Calibration = Literal["minmax", "entropy", "percentile"]
Ranges = Mapping[str, tuple[float, float]]
# What a CPU gains by: products of weights and activations. The rest follows what feeds it.
QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What goes into the range of the product before it: u8 clamps at zero and at the top anyway. Left between a product and its
# successor, each costs a pair of conversions and the half of the range that it throws away.
FOLDED = ("Relu", "Clip")


@dataclass(frozen=True)
class Scheme:
    """How integers stand for floats: what of weights (s8 is symmetric) and activations (s8 is symmetric, u8 is not)."""

    weights: Literal["s8", "u8"] = "s8"
    activations: Literal["s8", "u8"] = "u8"
    per_channel: bool = True
    reduce_range: bool = False


@contextmanager
def quantising() -> Iterator[None]:
    """What ONNX Runtime's quantiser raises on an odd graph, as a failure of the pass."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AssertionError) as error:
        raise PassFailed(f"ONNX Runtime cannot quantise this graph: {type(error).__name__}: {str(error)[:120]}") from error


def prepared(model: Path, into: Path) -> Path:
    """A copy with every operator named (what stays in float is told by name), batch norms folded into convolutions, shapes inferred."""
    import onnx
    import onnxruntime as ort
    from onnx import shape_inference

    options = ort.SessionOptions()
    # Basic: what is fused beyond that is no longer standard ONNX.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(into / "prepared.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    graph = shape_inference.infer_shapes(onnx.load(into / "prepared.onnx"))
    for place, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type}_{place}"
    onnx.save(graph, into / "prepared.onnx")
    return into / "prepared.onnx"


def ranges(graph: Path, batches: Sequence[Arrays], how: Calibration) -> Ranges:
    """The least and greatest value of each tensor that may be quantised, as `how` sees them in the batches."""
    found = _calibrated(graph, batches, how, [*QUANTISED, *FOLDED])
    return {name: (float(np.min(low)), float(np.max(high))) for name, (low, high) in found.items()}


def channel_ranges(graph: Path, batches: Sequence[Arrays]) -> Mapping[str, np.ndarray]:
    """The greatest absolute value of each channel (axis 1) of every inner tensor."""
    found = _calibrated(graph, batches, "minmax", [], per_channel=True)
    return {name: np.maximum(np.abs(low), np.abs(high)).reshape(-1) for name, (low, high) in found.items()}


def _calibrated(
    graph: Path, batches: Sequence[Arrays], how: Calibration, kinds: Sequence[str], *, per_channel: bool = False
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
    with tempfile.TemporaryDirectory(dir=graph.parent) as scratch:
        calibrator = create_calibrator(
            graph,
            kinds,
            str(Path(scratch, "augmented.onnx")),
            calibrate_method=methods[how],
            # Symmetric is the default of percentiles there: half of the integers would stand for what no ReLU gives.
            extra_options={"symmetric": False, "per_channel": per_channel},
        )
        # A histogram of all at once would hold every inner tensor of every row.
        for some in [batches] if how == "minmax" else [[batch] for batch in batches]:
            calibrator.collect_data(_Batches(some))
        return {name: (np.asarray(one.lowest), np.asarray(one.highest)) for name, one in calibrator.compute_data().items()}


def constants(model: Any) -> dict[str, np.ndarray]:
    """The initializers of a graph by name."""
    from onnx import numpy_helper

    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def put(model: Any, changed: Mapping[str, np.ndarray]) -> None:
    """Give initializers other numbers, each in the type that it has."""
    from onnx import numpy_helper

    for one in model.graph.initializer:
        if one.name in changed:
            dtype = numpy_helper.to_array(one).dtype
            one.CopyFrom(numpy_helper.from_array(changed[one.name].astype(dtype), one.name))


def write_pairs(graph: Path, into: Path, seen: Ranges, scheme: Scheme, floats: Sequence[str] = ()) -> None:
    """Write the graph with pairs around every product but `floats`, by the ranges seen."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorsData

    whole = onnx.load(graph)
    if any(node.op_type == "QuantizeLinear" for node in whole.graph.node):
        raise PassFailed("This graph is in eight bits already: quantise the version that it came from.")
    kinds = {"s8": QuantType.QInt8, "u8": QuantType.QUInt8}
    bounds = {name: (np.float32(low), np.float32(high)) for name, (low, high) in seen.items()}
    quantiser = QDQQuantizer(
        whole,
        scheme.per_channel,
        scheme.reduce_range,
        kinds[scheme.weights],
        kinds[scheme.activations],
        TensorsData(CalibrationMethod.MinMax, bounds),
        [],
        list(floats),
        [*QUANTISED, *FOLDED],
        {"WeightSymmetric": scheme.weights == "s8", "ActivationSymmetric": scheme.activations == "s8"},
    )
    quantiser.quantize_model()
    # The pairs stand at the end until then; ONNX wants a graph's operators in order, and a version with others is refused.
    quantiser.model.topological_sort()
    written = quantiser.model.model
    keep_in_float(written, floats)
    onnx.save(written, into)


def keep_in_float(model: Any, floats: Sequence[str]) -> None:
    """Put a LeakyRelu with slope 1, which changes nothing, after each of `floats` that reads what was quantised.

    ONNX Runtime (1.22 to 1.31 at least) quantises the weights of a Conv or Gemm between two pairs when it loads the model, per tensor and
    unasked: the operator kept in float for its accuracy would lose more than it lost before. With something between it and
    the next pair it does not, and this something it fuses into the operator.
    """
    from onnx import helper

    maker = {output: node for node in model.graph.node for output in node.output}
    nodes = list(model.graph.node)
    for node in [node for node in nodes if node.name in floats]:
        if node.input[0] not in maker or maker[node.input[0]].op_type != "DequantizeLinear":
            continue
        bare, shown = f"{node.output[0]}_float", node.output[0]
        node.output[0] = bare
        nodes.insert(nodes.index(node) + 1, helper.make_node("LeakyRelu", [bare], [shown], f"{node.name}_stays_float", alpha=1.0))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Batches:
    """Batches as ONNX Runtime asks for them: one after another, then None."""

    def __init__(self, batches: Sequence[Arrays]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._left, None)
        return None if batch is None else dict(batch)
