"""The numbers of a quantised graph: which tensors its QuantizeLinear/DequantizeLinear pairs round, and how. Reads and rewrites them. Pure.

What ONNX Runtime's quantiser wrote is the one description of what is rounded: training rounds what it tells, and writes its numbers there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from towline.optimize.base import PassFailed

# ONNX Runtime's names for an output of the graph before it is rounded.
_OUTPUT_SUFFIX = "_QuantizeLinear_Input"
_PAIR = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Rounded:
    """An activation: x' = scale * (clamp(round(x / scale) + zero_point, low, high) - zero_point). `scale_name` is its initializer."""

    tensor: str
    scale_name: str
    scale: float
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Weight:
    """Input `place` of the operator `node`: integers from `low` to `high`, with a scale for each index of `axis`, or one (None).

    The scale is (max - min) / (high - low). With a fixed `zero_point`, max is the greatest size and min its negative; None: it is found
    with the scale, low - min / scale.
    """

    node: str
    place: int
    axis: int | None
    zero_point: int | None
    low: int
    high: int


@dataclass(frozen=True)
class Pairs:
    activations: tuple[Rounded, ...]
    weights: tuple[Weight, ...]


def read_pairs(model: Any) -> Pairs:
    """What a quantised model (ModelProto) rounds. Raises PassFailed where it rounds nothing."""
    graph = _Graph(model)
    found = Pairs(tuple(graph.activations()), tuple(graph.weights()))
    if not found.activations or not found.weights:
        raise PassFailed("This graph has no weights and inner values of 8 bits: train after int8.")
    return found


def integers_of(array: np.ndarray, how: Weight) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The integers of a weight, and per index of its axis the scale and the zero point, as ONNX Runtime's quantiser finds them."""
    axes = tuple(axis for axis in range(array.ndim) if axis != how.axis)
    low, top = np.minimum(array.min(axis=axes, keepdims=True), 0), np.maximum(array.max(axis=axes, keepdims=True), 0)
    if how.zero_point is not None:
        top = np.maximum(-low, top)
        low = -top
    scale = ((top.astype(np.float64) - low) / (how.high - how.low)).astype(np.float32)
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)
    zero_point = np.rint(how.low - low / scale) if how.zero_point is None else np.full_like(scale, how.zero_point)
    return np.clip(np.rint(array / scale) + zero_point, how.low, how.high), scale.reshape(-1), zero_point.reshape(-1)


def rewrite(model: Any, trained: Any, scales: Mapping[str, float]) -> None:
    """Put the floats of `trained`, the same graph before it was quantised, into a quantised model, in place.

    `scales` are those of activations, by `scale_name`. Biases are int32 with the product of both scales, as their operators need them.
    """
    from onnx import numpy_helper

    for name, value in scales.items():
        before = _Graph(model).tensors[name]
        before.CopyFrom(numpy_helper.from_array(np.full(tuple(before.dims), value, np.float32), name))
    graph = _Graph(model)
    told = {(one.node, one.place): one for one in graph.weights()}
    floats = {tensor.name: tensor for tensor in trained.graph.initializer}
    twins = {node.name: node for node in trained.graph.node}
    for node in [one for one in model.graph.node if one.name in twins]:
        for place, name in enumerate(twins[node.name].input):
            if name not in floats:
                continue
            pair = graph.made_by.get(node.input[place])
            if pair is None or pair.op_type != "DequantizeLinear":
                node.input[place] = name
                graph.put(floats[name])
            elif (node.name, place) in told:
                graph.put_integers(pair, *integers_of(numpy_helper.to_array(floats[name]), told[node.name, place]))
            else:
                graph.put_bias(pair, numpy_helper.to_array(floats[name]), node)
    _drop_unread(model.graph)


class _Graph:
    """A quantised graph, looked up by name."""

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.made_by = {name: node for node in model.graph.node for name in node.output}

    def activations(self) -> Iterator[Rounded]:
        for node in self._graph.node:
            if node.op_type == "QuantizeLinear" and node.input[0] not in self.tensors:
                scale, zero_point = (self.array(name) for name in node.input[1:3])
                bounds = np.iinfo(zero_point.dtype)
                tensor = node.input[0].removesuffix(_OUTPUT_SUFFIX)
                yield Rounded(tensor, node.input[1], float(scale), int(zero_point), int(bounds.min), int(bounds.max))

    def weights(self) -> Iterator[Weight]:
        for node in [one for one in self._graph.node if one.op_type not in _PAIR]:
            for place, name in enumerate(node.input):
                pair = self.made_by.get(name)
                if pair is None or pair.op_type != "DequantizeLinear" or pair.input[0] not in self.tensors:
                    continue
                q, scale, zero_point = (self.array(one) for one in pair.input[:3])
                if q.dtype == np.int32:
                    # A bias.
                    continue
                axis = next((one.i for one in pair.attribute if one.name == "axis"), 1) % q.ndim
                yield Weight(node.name, place, axis if scale.size > 1 else None, *_range(q, zero_point))

    def array(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.tensors[name]))

    def put(self, tensor: Any) -> None:
        """An initializer, in place of the one of its name."""
        if tensor.name in self.tensors:
            self.tensors[tensor.name].CopyFrom(tensor)
        else:
            self._graph.initializer.append(tensor)
            self.tensors[tensor.name] = self._graph.initializer[-1]

    def put_integers(self, pair: Any, q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> None:
        """Into the constants of a DequantizeLinear, each in the shape and type that it has."""
        from onnx import numpy_helper

        for name, value in zip(pair.input, (q, scale, zero_point), strict=False):
            before = self.array(name)
            after = value.reshape(before.shape).astype(before.dtype)
            self.put(numpy_helper.from_array(np.ascontiguousarray(after), name))

    def put_bias(self, pair: Any, bias: np.ndarray, node: Any) -> None:
        scales = [self.array(self.made_by[name].input[1]).reshape(-1) for name in node.input[:2]]
        scale = np.broadcast_to(scales[0] * scales[1], self.array(pair.input[1]).reshape(-1).shape)
        bounds = np.iinfo(np.int32)
        q = np.clip(np.rint(bias.astype(np.float64) / scale), bounds.min, bounds.max)
        self.put_integers(pair, q, scale, np.zeros_like(scale))


def _range(q: np.ndarray, zero_point: np.ndarray) -> tuple[int | None, int, int]:
    """The zero point where it is fixed, the least and the greatest integer: the greatest weights have them, be it 7 bits or 8."""
    middle = int(zero_point.flat[0])
    if q.dtype == np.int8 and not zero_point.any():
        high = int(np.abs(q.astype(np.int32)).max()) or 127
        return 0, -high, high
    if q.dtype == np.uint8 and zero_point.size > 1 and middle in (64, 128) and (zero_point == middle).all():
        return middle, 0, 2 * middle - 1
    return None, int(min(q.min(), 0)), int(q.max())


def _drop_unread(graph: Any) -> None:
    read = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
    for tensor in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(tensor)
