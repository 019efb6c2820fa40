"""What each operator of an ONNX graph costs: `python -P -m towline.convert.cost MODEL SECONDS`, a process of its own.

Parameters are those of the weights it takes; FLOPs count a multiplication and an addition as two, for one request of given sizes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from towline.convert.inspect import limit
from towline.convert.looking import looked, tell

MAX_ROWS = 20_000
_REPORT_BYTES = 32 << 20


@dataclass(frozen=True)
class Row:
    """One operator, in the order of the graph. `flops` is None where its shapes cannot be told or nobody knows what it costs."""

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class Cost:
    """`left_out` operators are beyond the first 20,000; those inside Loop, If and functions are not counted."""

    rows: tuple[Row, ...]
    left_out: int = 0

    @property
    def flops(self) -> int:
        return sum(row.flops or 0 for row in self.rows)

    @property
    def unknown(self) -> int:
        return sum(row.flops is None for row in self.rows)


def cost_of(model: Path, shapes: Mapping[str, Sequence[int]], *, timeout_s: int = 60) -> Cost:
    """`shapes` are those of the inputs. Raises ImportRefused for a graph that cannot be read."""
    what = "What the graph costs cannot be told"
    told = {name: list(shape) for name, shape in shapes.items()}
    return looked("towline.convert.cost", [str(model.absolute())], told, Cost, timeout_s=timeout_s, what=what, code="COST_UNKNOWN")


def main(arguments: list[str]) -> int:
    source, seconds = Path(arguments[0]), int(arguments[1])
    limit(source.stat().st_size, seconds, file_bytes=_REPORT_BYTES)
    shapes = msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, list[int]])
    return tell(source, lambda: _counted(source, shapes))


def _counted(source: Path, shapes: Mapping[str, Sequence[int]]) -> Cost:
    import onnx
    from onnx import shape_inference

    model = onnx.load_model(str(source), load_external_data=False)
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    # What the file says of its inner tensors was said for other sizes.
    del model.graph.value_info[:]
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name: _shape(value) for value in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)}
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    rows = [_row(node, {**known, **weights}, weights) for node in model.graph.node[:MAX_ROWS]]
    return Cost(tuple(rows), max(len(model.graph.node) - MAX_ROWS, 0))


_Shapes = Mapping[str, tuple[int, ...] | None]


def _row(node: Any, shapes: _Shapes, weights: Mapping[str, tuple[int, ...]]) -> Row:
    given = [shapes.get(name) for name in node.input]
    made = shapes.get(node.output[0]) if node.output else None
    parameters = sum(math.prod(weights[name]) for name in dict.fromkeys(node.input) if name in weights)
    attributes = {attribute.name: attribute for attribute in node.attribute}
    return Row(node.name[:256], node.op_type[:64], made, parameters, _flops(node.op_type, given, made, attributes))


def _flops(kind: str, given: Sequence[tuple[int, ...] | None], made: tuple[int, ...] | None, attributes: Mapping[str, Any]) -> int | None:
    if kind in _FREE:
        return 0
    count = _COUNTED.get(kind)
    if count is None or made is None or not given or given[0] is None or (kind in _WITH_WEIGHTS and (len(given) < 2 or given[1] is None)):
        return None
    return count(given, made, attributes)


# What moves or names values, and computes none.
_FREE = frozenset(
    {"Cast", "Concat", "Constant", "ConstantOfShape", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Pad", "Range", "Reshape"}
    | {"Shape", "Size", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
_WITH_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
_Count = Callable[[Sequence[Any], tuple[int, ...], Mapping[str, Any]], int]


def _each(times: int) -> _Count:
    """So many operations for each element of the output."""
    return lambda given, made, attributes: times * math.prod(made)


def _each_taken(times: int) -> _Count:
    return lambda given, made, attributes: times * math.prod(given[0])


def _convolution(given: Sequence[Any], made: tuple[int, ...], attributes: Mapping[str, Any]) -> int:
    """The weight is [made, taken / groups, kernel …]: each element of the output sums over the rest of it."""
    return int(2 * math.prod(made) * math.prod(given[1][1:])) + (math.prod(made) if len(given) > 2 else 0)


def _transposed(given: Sequence[Any], made: tuple[int, ...], attributes: Mapping[str, Any]) -> int:
    return int(2 * math.prod(given[0]) * math.prod(given[1][1:])) + (math.prod(made) if len(given) > 2 else 0)


def _product(given: Sequence[Any], made: tuple[int, ...], attributes: Mapping[str, Any]) -> int:
    inner = given[0][0] if "transA" in attributes and attributes["transA"].i else given[0][-1]
    return int(2 * math.prod(made) * inner) + (math.prod(made) if len(given) > 2 else 0)


def _recurrent(gates: int) -> _Count:
    def count(given: Sequence[Any], made: tuple[int, ...], attributes: Mapping[str, Any]) -> int:
        steps, rows, features = given[0]
        directions, width = given[1][0], given[1][1] // gates
        return int(2 * steps * rows * directions * gates * width * (features + width))

    return count


_COUNTED: Mapping[str, _Count] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _product,
    "MatMul": _product,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "BatchNormalization": _each(2),
    "LayerNormalization": _each(8),
    "InstanceNormalization": _each(8),
    "Softmax": _each(5),
    "LogSoftmax": _each(5),
    "Gelu": _each(8),
    **{kind: _each_taken(1) for kind in ("GlobalAveragePool", "GlobalMaxPool", "ArgMax", "ArgMin", "TopK")},
    **{kind: _each_taken(1) for kind in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ReduceSumSquare")},
    **{
        kind: lambda given, made, attributes: math.prod(made) * math.prod(attributes["kernel_shape"].ints)
        for kind in ("AveragePool", "MaxPool")
    },
    **{kind: _each(1) for kind in ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mod", "Neg", "Abs", "Sqrt", "Reciprocal")},
    **{kind: _each(1) for kind in ("Relu", "LeakyRelu", "PRelu", "Clip", "Where", "Equal", "Less", "Greater", "And", "Or", "Not", "Floor")},
    **{
        kind: _each(4)
        for kind in ("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Exp", "Log", "Erf", "Elu", "Selu", "Softplus", "Sin", "Cos")
    },
}


def _shape(value: Any) -> tuple[int, ...] | None:
    dims = value.type.tensor_type.shape.dim if value.type.tensor_type.HasField("shape") else None
    return tuple(dim.dim_value for dim in dims) if dims is not None and all(dim.HasField("dim_value") for dim in dims) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
