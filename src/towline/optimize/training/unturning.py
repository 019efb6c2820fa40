"""Fold the Transpose before a flatten into the dense layer after it, so that each channel's pixels lie together, as where it is pruned.

Graphs that were made of Keras models turn pictures to channels last before they flatten them. The answers stay, up to rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from towline.optimize.training.reading import read_proto, shapes_of

_LAST = [0, 2, 3, 1]


def unturned(model: Path, into: Path) -> Path:
    """`model` itself where nothing is to be folded, else the file `into`."""
    proto = read_proto(model)
    shapes = shapes_of(proto)
    held = {one.name: one for one in proto.graph.initializer}
    folded = [turn for turn in proto.graph.node if turn.op_type == "Transpose" and _fold(proto.graph, turn, shapes, held)]
    if not folded:
        return model
    for turn in folded:
        proto.graph.node.remove(turn)
    onnx.save(proto, into)
    return into


def _fold(graph: Any, turn: Any, shapes: dict[str, tuple[int | None, ...]], held: dict[str, Any]) -> bool:
    """Turn the rows of the dense layer's weight instead. Whether it could be done."""
    perm = next((list(one.ints) for one in turn.attribute if one.name == "perm"), [])
    flat = _only_reader(graph, turn.output[0])
    if perm != _LAST or flat is None or not _is_flatten(flat, held):
        return False
    dense = _only_reader(graph, flat.output[0])
    if dense is None or dense.op_type not in ("MatMul", "Gemm") or dense.input[0] != flat.output[0] or dense.input[1] not in held:
        return False
    words = {one.name: one.i for one in dense.attribute}
    shape, tensor = shapes.get(turn.input[0], ()), held[dense.input[1]]
    if words.get("transA") or len(shape) != 4 or None in shape[1:] or _only_reader(graph, tensor.name) is None or len(tensor.dims) != 2:
        return False
    weight = numpy_helper.to_array(tensor)
    rows = weight.T if words.get("transB") else weight
    channels, height, width = (int(one or 0) for one in shape[1:])
    if rows.shape[0] != channels * height * width:
        return False
    rows = rows.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(rows.shape)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rows.T if words.get("transB") else rows), tensor.name))
    flat.input[0] = turn.input[0]
    return True


def _only_reader(graph: Any, name: str) -> Any | None:
    readers = [node for node in graph.node if name in node.input]
    return readers[0] if len(readers) == 1 and name not in {one.name for one in graph.output} else None


def _is_flatten(node: Any, held: dict[str, Any]) -> bool:
    if node.op_type == "Flatten":
        return all(one.i == 1 for one in node.attribute if one.name == "axis")
    return node.op_type == "Reshape" and node.input[1] in held and numpy_helper.to_array(held[node.input[1]]).tolist() == [0, -1]
