"""Read an ONNX graph as a list of nodes and named constants, made regular: every node named, every weight of one owner, flattens open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from towline.optimize.base import PassFailed

_STANDARD = ("", "ai.onnx")
# The target of a reshape that keeps the first axis and merges the others.
_FLAT = [0, -1]


@dataclass(frozen=True)
class Node:
    """One operator: `name` is that of the ONNX node, or its operator and place where it has none. Missing inputs are empty names."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int


@dataclass(frozen=True)
class Graph:
    """The nodes that `output` needs, in order, and every constant by name. `proto` is the model they were read from, made regular."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    inputs: tuple[str, ...]
    output: str
    proto: Any

    def readers(self, name: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if name in node.inputs)


def read_proto(model: Path) -> Any:
    """The model, made regular, the same way each time: what is trained and what is written have the same names."""
    proto = onnx.load(model)
    _name_nodes(proto.graph)
    _own_statistics(proto.graph)
    _open_flattens(proto)
    return proto


def read_graph(model: Path, output: str) -> Graph:
    """What computes `output`. Raises PassFailed for a graph that has no such output or operators that are none of ONNX's own."""
    proto = read_proto(model)
    graph = proto.graph
    outputs = [one.name for one in graph.output]
    if output not in outputs:
        raise PassFailed(f"The graph has no output '{output}'; it has {', '.join(outputs)}.")
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    opset = max((one.version for one in proto.opset_import if one.domain in _STANDARD), default=1)
    nodes = _needed([*graph.node], output)
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in _STANDARD})
    if foreign:
        raise PassFailed(f"Operators that are none of ONNX's own cannot be trained: {', '.join(foreign)}.")
    read = []
    for node in nodes:
        if node.op_type == "Constant":
            constants[node.output[0]] = constant_of(node)
        else:
            words = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            read.append(Node(node.name, node.op_type, tuple(node.input), tuple(node.output), words, opset))
    inputs = tuple(one.name for one in graph.input if one.name not in constants)
    return Graph(tuple(read), constants, inputs, output, proto)


def constant_of(node: Any) -> np.ndarray:
    """What a node of the operator Constant holds. Raises PassFailed for text and sparse tensors."""
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    raise PassFailed(f"The constant '{node.output[0]}' is a {attribute.name}, which is no tensor of numbers.")


def is_float(array: np.ndarray) -> bool:
    """Whether an array is of the type that weights are trained in."""
    return array.dtype == np.float32


def _needed(nodes: list[Any], output: str) -> list[Any]:
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _name_nodes(graph: Any) -> None:
    """As optimize/quantize.py names them, so that a layer has one name for every pass."""
    taken: set[str] = set()
    for place, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{place}"
        node.name = f"{name}_{place}" if name in taken else name
        taken.add(node.name)


def _own_statistics(graph: Any) -> None:
    """Exporters keep equal arrays once, such as the zeros of two batch norms, which training must be able to tell apart.

    What norms and biases hold gets a copy per node. One weight are those of two and more axes, and all of a layer that is used twice: one
    that has every weight in common with another, other than those that any two new layers have in common.
    """
    held = {one.name: one for one in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input if name in held)
    alike = Counter((node.op_type, *node.input[1:]) for node in graph.node)
    given = {one.name for one in graph.input}
    for node in graph.node:
        if alike[(node.op_type, *node.input[1:])] > 1 and not all(_is_even(held[name]) for name in node.input[1:] if name in held):
            continue
        for place, name in enumerate(node.input):
            if uses.get(name, 0) > 1 and len(held[name].dims) == 1 and name not in given and held[name].data_type == onnx.TensorProto.FLOAT:
                uses[name] -= 1
                copy = onnx.TensorProto()
                copy.CopyFrom(held[name])
                copy.name = f"{name}.{node.name}.{place}"
                graph.initializer.append(copy)
                node.input[place] = copy.name


def _is_even(tensor: Any) -> bool:
    """All zeros or all ones, as a layer is before it was ever trained."""
    values = numpy_helper.to_array(tensor)
    return bool(np.all(values == values.flat[0])) if values.size else True


def _open_flattens(proto: Any) -> None:
    """A Reshape to (-1, 1024) that flattens all axes but the first becomes one to (0, -1): right for any width of what comes before."""
    graph = proto.graph
    targets = [node for node in graph.node if node.op_type == "Reshape" and len(node.input) == 2]
    constants = {one.name: one for one in graph.initializer}
    constants |= {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    targets = [node for node in targets if node.input[1] in constants]
    if not targets:
        return
    shapes = shapes_of(proto)
    for node in targets:
        held = constants[node.input[1]]
        target = (constant_of(held) if isinstance(held, onnx.NodeProto) else numpy_helper.to_array(held)).tolist()
        if target != _FLAT and flattens(shapes.get(node.input[0], ()), target):
            name = f"{node.name}.flat"
            graph.initializer.append(numpy_helper.from_array(np.array(_FLAT, np.int64), name))
            node.input[1] = name
    _drop_unread(graph)


def _drop_unread(graph: Any) -> None:
    read = {name for node in graph.node for name in node.input} | {one.name for one in [*graph.input, *graph.output]}
    for tensor in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(tensor)


def flattens(shape: Iterable[int | None], target: list[int]) -> bool:
    """Whether a reshape of `shape` (None where an axis is not fixed) to `target` merges all axes but the first."""
    first, *others = [*shape] or [None]
    if len(target) != 2 or not others or None in others:
        return False
    width = int(np.prod([one for one in others if one is not None]))
    if target[1] == width:
        return target[0] in (-1, 0) or (first is not None and target[0] == first)
    return target == _FLAT or (first is not None and target == [first, -1])


def shapes_of(proto: Any) -> dict[str, tuple[int | None, ...]]:
    """By the name of a tensor, as far as they follow from the graph; None for an axis that is not fixed."""
    try:
        inferred = shape_inference.infer_shapes(proto)
    except (shape_inference.InferenceError, ValueError):
        return {}
    kinds = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    return {
        one.name: tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in one.type.tensor_type.shape.dim) for one in kinds
    }
