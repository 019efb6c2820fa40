"""A student with fewer layers of the version's own: blocks that give the shape that they take are left out; the others keep their weights.

A block lies between two tensors that everything goes through (one way in, one way out), the first of which a layer with weights reads:
a convolution with its norm and activation, or a residual block with both of its ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from towline.optimize.base import PassFailed
from towline.optimize.students.narrowed import without_what_nothing_reads

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What a block begins with where it normalises first, as transformers do.
_NORMS = ("LayerNormalization",)


@dataclass(frozen=True)
class Block:
    """What reads `taken` and makes `made`, a tensor of the same shape."""

    taken: str
    made: str


def shallow(model: Any, depth: float) -> Any:
    """`model` (an onnx.ModelProto) with the share `depth` of its blocks, the first of each row of equal ones kept. Raises PassFailed
    where there is no block that could go."""
    import onnx
    from onnx import checker

    blocks = blocks_of(model)
    if not blocks:
        raise PassFailed("The graph has no block that takes and gives the same shape, so none can be left out.", hint="Use depth 1.")
    student = onnx.ModelProto()
    student.CopyFrom(model)
    for block in left_out(blocks, depth):
        _bypass(student.graph, block)
    without_what_nothing_reads(student.graph)
    read = {name for node in student.graph.node for name in node.input}
    weights = [one for one in student.graph.initializer if one.name in read]
    del student.graph.initializer[:]
    student.graph.initializer.extend(weights)
    del student.graph.value_info[:]
    checker.check_model(student, full_check=True)
    return student


def left_out(blocks: Sequence[Block], depth: float) -> tuple[Block, ...]:
    """Those that go: spread over the graph, and of neighbours the later ones. Pure."""
    count = min(len(blocks), round(len(blocks) * (1 - depth)))
    return tuple(blocks[len(blocks) - 1 - (place * len(blocks)) // count] for place in range(count))


def blocks_of(model: Any) -> tuple[Block, ...]:
    """In the order of the graph."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {one.name: one.type.SerializeToString() for one in (*inferred.input, *inferred.value_info)}
    through = [name for name in through_all(model.graph) if name in shapes]
    for kinds in (_WEIGHTED, _NORMS):
        heads = [
            place for place, name in enumerate(through) if any(node.op_type in kinds and name in node.input for node in model.graph.node)
        ]
        found = []
        # The last one begins with the layer that answers, which stays.
        for head, following in pairwise(heads):
            ends = [place for place in range(head + 1, following + 1) if shapes[through[place]] == shapes[through[head]]]
            found += [Block(through[head], through[ends[-1]])] if ends else []
        if found:
            return tuple(found)
    return ()


def through_all(graph: Any) -> list[str]:
    """The tensors that everything goes through, in order: after they are made, nothing made before is read any more."""
    constants = {one.name for one in graph.initializer}
    last_read: dict[str, int] = {}
    for place, node in enumerate(graph.node):
        last_read.update(dict.fromkeys((name for name in node.input if name and name not in constants), place))
    last_read.update(dict.fromkeys((value.name for value in graph.output), len(graph.node)))
    live, found = {value.name for value in graph.input if value.name not in constants}, []
    for place, node in enumerate(graph.node):
        if node.op_type == "Constant":
            last_read = {name: at for name, at in last_read.items() if name not in node.output}
            continue
        live = {name for name in (*live, *node.output) if last_read.get(name, -1) > place}
        if len(live) == 1:
            found.append(next(iter(live)))
    return found


def _bypass(graph: Any, block: Block) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == block.made:
                node.input[place] = block.taken
