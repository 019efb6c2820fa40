"""What a student must take and give: the signature of the graph whose place it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from towline.optimize.base import PassFailed

Activation = Literal["softmax", "sigmoid", ""]
Form = Literal["picture", "flat", "tokens", "other"]
_FLOATS = ("float32", "float64", "float16")
_NUMBERS = (*_FLOATS, "uint8")
# Shorter sides are no picture: what lies on them is read as numbers.
_LEAST_SIDE = 4
_MOST_CHANNELS = 4
_MOST_NUMBERS = 16_384
_ACTIVATIONS: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
# What may stand between the activation and the output.
_PASSED_OVER = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze")


@dataclass(frozen=True)
class Taken:
    """An input or output of a graph: a word where a size is free, None where nothing is known of the shape."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None

    @property
    def numbers(self) -> int | None:
        """How many numbers a row has; None where that is free."""
        if not self.shape:
            return None
        sizes = [size for size in self.shape[1:] if isinstance(size, int)]
        return math.prod(sizes) if len(sizes) == len(self.shape) - 1 else None


@dataclass(frozen=True)
class Asked:
    """`activation` is what the graph ends in; `tokens` the input that is looked up in a table, and `vocabulary` the rows of that table."""

    inputs: tuple[Taken, ...]
    output: Taken
    outputs: int
    activation: Activation
    tokens: str = ""
    vocabulary: int = 0

    @property
    def form(self) -> Form:
        """What a student of another architecture would be made for."""
        if self.outputs > 1 or self.answers is None or self.output.dtype not in _FLOATS:
            return "other"
        if self.vocabulary and all(one.dtype in ("int64", "int32") and len(one.shape or ()) == 2 for one in self.inputs):
            return "tokens"
        if len(self.inputs) == 1 and self.layout:
            return "picture"
        return "flat" if self.numbers else "other"

    @property
    def numbers(self) -> int:
        """How many numbers a row has, all inputs together; 0 where that is free, more than dense layers are for, or not of numbers."""
        counts = [one.numbers or 0 for one in self.inputs if one.dtype in _NUMBERS]
        return sum(counts) if len(counts) == len(self.inputs) and all(counts) and sum(counts) <= _MOST_NUMBERS else 0

    @property
    def answers(self) -> int | None:
        """How many numbers answer a row: its classes or targets. None where the output is no list of them."""
        shape = self.output.shape
        if shape is None or not 1 <= len(shape) <= 2:
            return None
        last = shape[1] if len(shape) == 2 else 1
        return last if isinstance(last, int) else None

    @property
    def layout(self) -> Literal["NCHW", "NHWC", "NHW", ""]:
        """How the only input holds a picture, or anything else with neighbours; empty where it does not."""
        taken = self.inputs[0]
        shape = taken.shape or ()
        if taken.dtype not in _NUMBERS:
            return ""
        if len(shape) == 3 and _are_sides(shape[1:]) and all(isinstance(side, int) for side in shape[1:]):
            return "NHW"
        if len(shape) != 4:
            return ""
        first, last = isinstance(shape[1], int), isinstance(shape[3], int)
        if _is_few(shape[3]) and not _is_few(shape[1]) and _are_sides(shape[1:3]):
            return "NHWC"
        return "NCHW" if first and _are_sides(shape[2:]) else "NHWC" if last and _are_sides(shape[1:3]) else ""

    @property
    def channels(self) -> int:
        shape = self.inputs[0].shape or ()
        size = {"NCHW": shape[1:2], "NHWC": shape[3:]}.get(self.layout, (1,))[0]
        return int(size)

    @property
    def side(self) -> int | None:
        """The shorter side of the picture, in pixels; None where both are free."""
        shape = self.inputs[0].shape or ()
        sides = shape[2:] if self.layout == "NCHW" else shape[1:3]
        return min((side for side in sides if isinstance(side, int)), default=None)


def asked_of(model: Any, output: str) -> Asked:
    """What the graph `model` (an onnx.ModelProto) is asked and answers in `output`. Raises PassFailed where it has no such output."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_taken(value) for value in model.graph.input if value.name not in weights)
    found = [_taken(value) for value in model.graph.output if value.name == output]
    if not found:
        raise PassFailed(f"The graph has no output '{output}': {', '.join(value.name for value in model.graph.output)}.")
    return Asked(inputs, found[0], len(model.graph.output), _activation(model, output), *_tokens(model))


def _taken(value: Any) -> Taken:
    from onnx import helper

    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)
    return Taken(value.name, str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape)


def _activation(model: Any, output: str) -> Activation:
    made_by = {name: node for node in model.graph.node for name in node.output}
    node = made_by.get(output)
    while node is not None and node.op_type in _PASSED_OVER:
        node = made_by.get(node.input[0])
    return "" if node is None else _ACTIVATIONS.get(node.op_type, "")


def _tokens(model: Any) -> tuple[str, int]:
    """The input whose tokens are looked up in the tallest table, and how tall that is."""
    tables = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 2}
    comes_from = {value.name: value.name for value in model.graph.input}
    found = ("", 0)
    for node in model.graph.node:
        if node.op_type in ("Cast", "Identity") and node.input[0] in comes_from:
            comes_from[node.output[0]] = comes_from[node.input[0]]
        if node.op_type == "Gather" and node.input[1] in comes_from and tables.get(node.input[0], 0) > found[1]:
            found = (comes_from[node.input[1]], tables[node.input[0]])
    return found


def _are_sides(sizes: tuple[int | str, ...]) -> bool:
    return all(not isinstance(size, int) or size >= _LEAST_SIDE for size in sizes)


def _is_few(size: int | str) -> bool:
    return isinstance(size, int) and size <= _MOST_CHANNELS
