"""Which inner tensors of a student shall be like which of its teacher, where nobody named them."""

from __future__ import annotations

import math
from typing import Any

from towline.optimize.base import PassFailed
from towline.optimize.students.shallow import through_all

MOST_PAIRS = 3
Shapes = dict[str, tuple[int, ...]]


def paired(student: Any, teacher: Any) -> tuple[tuple[str, str], ...]:
    """Tensors that everything goes through, of the student and of the teacher (onnx.ModelProto), three pairs at most.

    Of one name where the student is the teacher's own graph made narrower, else the last of each size of picture. Raises PassFailed
    where there are none.
    """
    its, theirs = _inner(student), _inner(teacher)
    same = [(name, name) for name in its if name in theirs and _differ(its[name], theirs[name]) <= 1]
    found = same or _by_size(its, theirs)
    if not found:
        raise PassFailed("No inner tensor of the student is of a size that one of the teacher has.", hint="Name pairs of tensors.")
    # Spread over the depth, the last ones among them.
    every = max(1, len(found) // MOST_PAIRS)
    return tuple(found[::-1][::every][:MOST_PAIRS][::-1])


def _differ(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """In how many sizes."""
    return sum(size != its for size, its in zip(one, other, strict=True)) if len(one) == len(other) else math.inf


def _by_size(its: Shapes, theirs: Shapes) -> list[tuple[str, str]]:
    last_its, last_theirs = ({shape[2:]: name for name, shape in some.items() if len(shape) > 2} for some in (its, theirs))
    return [(name, last_theirs[size]) for size, name in last_its.items() if size in last_theirs]


def _inner(model: Any) -> Shapes:
    """Tensors of known sizes that came out of an activation or a sum, in order, and their shapes."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {one.name: tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim) for one in inferred.value_info}
    last = {name for node in model.graph.node if node.op_type in _LAST for name in node.output}
    names = [name for name in through_all(model.graph) if name in last]
    return {name: shapes[name] for name in names if name in shapes and len(shapes[name]) > 1 and all(shapes[name][1:])}


# What ends a layer or a block.
_LAST = ("Relu", "Clip", "LeakyRelu", "Elu", "HardSwish", "Gelu", "Tanh", "Add", "Mul", "LayerNormalization")
