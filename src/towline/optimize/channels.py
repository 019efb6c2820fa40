"""Find the tensors of a graph whose channels may be rescaled together without a change in its answers. Pure.

A channel may be divided by s > 0 where it is made, if it is multiplied by s where it is read, and everything between lets a positive
factor through: max(0, x / s) = max(0, x) / s. What is added to one another has to share its scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# f(x / s) = f(x) / s in every channel.
_THROUGH = ("Relu", "LeakyRelu", "GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "Identity", "Dropout")
_SPATIAL = [2, 3]


@dataclass
class Group:
    """Tensors that share one scale per channel: the Conv and Gemm that make them and read them. `clips` are the upper ends of what clips
    them at zero below. A group that anything else touches is not `free`."""

    tensors: set[str] = field(default_factory=set)
    makers: list[Any] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)
    clips: list[float] = field(default_factory=list)
    free: bool = True

    @property
    def can_be_scaled(self) -> bool:
        return self.free and bool(self.makers) and bool(self.readers)


def groups(graph: Any, weights: Mapping[str, np.ndarray]) -> list[Group]:
    """Those of an onnx.GraphProto that may be rescaled, in the order of the graph. `weights` are its initialisers."""
    of: dict[str, Group] = {}
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    flat = {one.name for one in graph.value_info if [side.dim_value for side in one.type.tensor_type.shape.dim[2:]] == [1, 1]}

    def group(name: str) -> Group:
        return of.setdefault(name, Group({name}))

    def join(first: str, second: str) -> Group:
        one, other = group(first), group(second)
        if one is not other:
            one.tensors |= other.tensors
            one.makers += other.makers
            one.readers += other.readers
            one.clips += other.clips
            one.free &= other.free
            of.update(dict.fromkeys(other.tensors, one))
        return one

    for node in graph.node:
        own = [name for name in node.input if name and name not in weights]
        if is_layer(node, weights, uses):
            group(own[0]).readers.append(node)
            group(node.output[0]).makers.append(node)
        elif passes_through(node, weights, flat):
            join(own[0], node.output[0])
        elif node.op_type == "Add" and len(own) == 2:
            join(own[0], own[1])
            join(own[0], node.output[0])
        elif node.op_type == "Clip" and (top := _clipped_at(node, weights)) is not None:
            join(own[0], node.output[0]).clips.append(top)
        else:
            for name in (*own, *node.output):
                group(name).free = False
    for outside in (*graph.input, *graph.output):
        group(outside.name).free = False
    return [one for one in {id(one): one for one in of.values()}.values() if one.can_be_scaled]


def is_layer(node: Any, weights: Mapping[str, np.ndarray], uses: Mapping[str, int]) -> bool:
    """Whether it is a Conv or Gemm whose weights, its alone, can take the scales in: grouped only where each channel is a group."""
    if node.op_type not in ("Conv", "Gemm") or any(name not in weights or uses[name] > 1 for name in node.input[1:]):
        return False
    weight = weights[node.input[1]]
    if node.op_type == "Conv":
        return attribute(node, "group", 1) in (1, weight.shape[0]) and (attribute(node, "group", 1) == 1 or weight.shape[1] == 1)
    return not attribute(node, "transA", 0) and (len(node.input) < 3 or weights[node.input[2]].ndim == 1)


def is_depthwise(node: Any) -> bool:
    return bool(node.op_type == "Conv" and attribute(node, "group", 1) > 1)


def passes_through(node: Any, weights: Mapping[str, np.ndarray], flat: set[str]) -> bool:
    if node.op_type == "ReduceMean":
        axes = list(weights[node.input[1]]) if len(node.input) > 1 and node.input[1] in weights else attribute(node, "axes", [])
        return [int(axis) for axis in axes] in (_SPATIAL, [-2, -1])
    if node.op_type == "Flatten":
        return bool(attribute(node, "axis", 1) == 1 and node.input[0] in flat)
    return node.op_type in _THROUGH and len(node.output) == 1


def _clipped_at(node: Any, weights: Mapping[str, np.ndarray]) -> float | None:
    """The upper end of a Clip that starts at zero, None for any other."""
    ends = [weights.get(name) for name in node.input[1:]]
    if len(ends) != 2 or ends[0] is None or ends[1] is None or float(ends[0].reshape(())) != 0:
        return None
    return float(ends[1].reshape(()))


def attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
