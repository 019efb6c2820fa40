"""Weights as 8 or 4 bits in the file, and as floats once loaded: as fast as before, a quarter or an eighth of the bytes.

Each weight becomes q (integers), a scale and, not symmetric, a zero point, with w' = scale * (q - zero_point) written as operators that
ONNX Runtime folds while it loads (Cast, Sub, Mul; it never folds DequantizeLinear, which would then run at every request).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from towline.optimize.base import Material, Passed, PassFailed

# Which inputs of an operator are weights, and along which axis each index has a scale of its own: outputs, and the rows of a table.
_WEIGHTS = {
    "Conv": ((1,), 0),
    "ConvTranspose": ((1,), 1),
    "MatMul": ((1,), -1),
    "Gemm": ((1,), -1),
    "Gather": ((0,), 0),
    "LSTM": ((1, 2), 1),
    "GRU": ((1, 2), 1),
    "RNN": ((1, 2), 1),
}
# Smaller ones are no bytes worth a rounding.
SMALLEST = 256
# The first operator set with integers of so many bits in Cast, and with Slice and Reshape as they are written here.
_OPSET = {8: 13, 4: 21}
_IR_VERSION = {13: 7, 21: 10}


@dataclass(frozen=True)
class Integers:
    """A weight as integers: `q` is [channels, blocks, block], the last block padded; `scale` and `zero_point` are [channels, blocks, 1]."""

    q: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray | None


def integers(rows: np.ndarray, bits: int, block: int, *, symmetric: bool) -> Integers:
    """[channels, weights] as integers of `bits`, every `block` weights with a scale of their own (0: all of a channel). Pure."""
    channels, count = rows.shape
    block = min(block or count, count)
    blocks = -(-count // block)
    padded = np.zeros((channels, blocks * block), np.float32)
    padded[:, :count] = rows
    x = padded.reshape(channels, blocks, block)
    if symmetric:
        high = 2 ** (bits - 1) - 1
        scale = _not_zero(np.abs(x).max(axis=2, keepdims=True) / high)
        return Integers(np.clip(np.rint(x / scale), -high, high).astype(np.int8), scale, None)
    low, top = np.minimum(x.min(axis=2, keepdims=True), 0), np.maximum(x.max(axis=2, keepdims=True), 0)
    high = 2**bits - 1
    scale = _not_zero((top - low) / high)
    zero = np.clip(np.rint(-low / scale), 0, high)
    return Integers(np.clip(np.rint(x / scale) + zero, 0, high).astype(np.uint8), scale, zero.astype(np.uint8))


@dataclass(frozen=True)
class Stored:
    """The last pass of a chain: what others read of a graph are its floats. `block` 0: one scale per output."""

    bits: Literal[4, 8] = 8
    block: int = 0
    symmetric: bool = True

    environment = ""

    @property
    def name(self) -> str:
        return f"stored int{self.bits}"

    @property
    def settings(self) -> str:
        kind = "" if self.symmetric else "a"
        return f"weights {f'in blocks of {self.block}' if self.block else 'per channel'}, {kind}symmetric, floats once loaded"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        import onnx

        graph = _in_opset(onnx.load(model), _OPSET[self.bits])
        found = _rewrite(graph.graph, dict(_weights(graph.graph)), self)
        if not found:
            raise PassFailed(f"No operator of this graph has a constant weight of {SMALLEST} floats or more: there is nothing to store.")
        onnx.save(graph, into / "model.onnx")
        return Passed("model.onnx", (f"{found} weights are stored as {self.bits} bits.",))


def _weights(graph: Any) -> Iterator[tuple[str, int]]:
    """The name of each weight worth it, and its axis of channels."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer if tensor.data_type == 1 and len(tensor.dims) > 1}
    for node in graph.node:
        places, axis = _WEIGHTS.get(node.op_type, ((), 0))
        if node.op_type == "Gemm" and any(one.name == "transB" and one.i for one in node.attribute):
            axis = 0
        for place in places:
            name = node.input[place] if place < len(node.input) else ""
            if sizes.get(name, 0) >= SMALLEST:
                yield name, axis


def _rewrite(graph: Any, axes: dict[str, int], how: Stored) -> int:
    """In place: integers for the weights, and the operators that make floats of them, before all others. How many weights there were."""
    from onnx import numpy_helper

    made: list[Any] = []
    done = set()
    for tensor in [one for one in graph.initializer if one.name in axes]:
        moved = np.moveaxis(numpy_helper.to_array(tensor), axes[tensor.name], 0)
        if not np.isfinite(moved).all():
            continue
        packed = integers(moved.reshape(len(moved), -1), how.bits, how.block, symmetric=how.symmetric)
        tensors, nodes = _unpacking(tensor.name, packed, moved.shape, axes[tensor.name], how.bits)
        graph.initializer.remove(tensor)
        graph.initializer.extend(tensors)
        made += nodes
        done.add(tensor.name)
    after = [_copy(node) for node in graph.node]
    # Old graphs name their weights among the inputs.
    inputs = [_copy(one) for one in graph.input if one.name not in done]
    for field, values in ((graph.node, [*made, *after]), (graph.input, inputs)):
        del field[:]
        field.extend(values)
    return len(done)


def _unpacking(name: str, packed: Integers, moved: tuple[int, ...], axis: int, bits: int) -> tuple[list[Any], list[Any]]:
    """The constants of one weight, and the operators that make it: `moved` is its shape with the axis of channels in front."""
    from onnx import TensorProto, helper, numpy_helper

    tensors: list[Any] = []
    nodes: list[Any] = []

    def constant(word: str, array: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(array, f"{name}/{word}"))
        return tensors[-1].name  # type: ignore[no-any-return]

    def integer(word: str, array: np.ndarray) -> str:
        if bits == 8:
            return constant(word, array)
        kind = TensorProto.INT4 if array.dtype == np.int8 else TensorProto.UINT4
        nibbles = np.append(array.flatten().view(np.uint8) & 15, np.zeros(array.size % 2, np.uint8))
        tensors.append(helper.make_tensor(f"{name}/{word}", kind, array.shape, (nibbles[::2] | nibbles[1::2] << 4).tobytes(), raw=True))
        return tensors[-1].name  # type: ignore[no-any-return]

    def then(operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{name}/{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    value = then("Cast", integer("q", packed.q), to=TensorProto.FLOAT)
    if packed.zero_point is not None:
        value = then("Sub", value, then("Cast", integer("zero_point", packed.zero_point), to=TensorProto.FLOAT))
    value = then("Mul", value, constant("scale", packed.scale.astype(np.float32)))
    count = int(np.prod(moved[1:]))
    if packed.q[0].size > count:
        value = then("Reshape", value, constant("rows", np.array([moved[0], -1], np.int64)))
        bounds = [constant(word, np.array([at], np.int64)) for word, at in (("from", 0), ("to", count), ("axis", 1))]
        value = then("Slice", value, *bounds)
    value = then("Reshape", value, constant("shape", np.array(moved, np.int64)))
    order = list(range(1, len(moved)))
    order.insert(axis % len(moved), 0)
    if order != sorted(order):
        then("Transpose", value, perm=order)
    nodes[-1].output[0] = name
    return tensors, nodes


def _in_opset(model: Any, needed: int) -> Any:
    """The model in an operator set of at least `needed`. Raises PassFailed where it cannot be brought there."""
    from onnx import version_converter

    now = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if now < needed:
        try:
            model = version_converter.convert_version(model, needed)
        except (RuntimeError, ValueError) as error:
            raise PassFailed(f"The graph cannot be written in operator set {needed}, which this needs: {str(error)[:120]}") from error
    model.ir_version = max(model.ir_version, _IR_VERSION[needed])
    return model


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def _not_zero(scale: np.ndarray) -> np.ndarray:
    return np.where(scale > 0, scale, 1).astype(np.float32)
