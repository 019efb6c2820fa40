"""Operators that move, pick, repeat and retype elements, and compute none. Whole numbers, such as shapes, go through them too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from towline.optimize.base import PassFailed
from towline.optimize.training.reading import Node

# ONNX's numbers of types, as far as training meets them.
TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


def numbers(value: Tensor | None) -> list[int]:
    """A tensor of whole numbers, such as axes, as a list."""
    return [] if value is None else [int(one) for one in value.reshape(-1).tolist()]


def given(node: Node, values: Sequence[Any], place: int, word: str) -> list[int]:
    """What newer operator sets give as an input and older ones as an attribute."""
    if len(values) > place and values[place] is not None:
        return numbers(values[place])
    return [int(one) for one in node.attributes.get(word, ())]


def reshaped(node: Node, values: Sequence[Any]) -> Tensor:
    x, target = values[0], given(node, values, 1, "shape")
    if target == [0, -1]:
        # Said as a flatten, it holds for any width, and tells a tracer so.
        return torch.flatten(x, 1)
    sizes = [x.shape[place] if size == 0 and not node.attributes.get("allowzero") else size for place, size in enumerate(target)]
    return torch.reshape(x, sizes)


def flattened(node: Node, values: Sequence[Any]) -> Tensor:
    x, axis = values[0], int(node.attributes.get("axis", 1))
    if axis == 1:
        return torch.flatten(x, 1)
    axis = axis % x.dim() if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def squeezed(node: Node, values: Sequence[Any]) -> Tensor:
    axes = given(node, values, 1, "axes") or [place for place, size in enumerate(values[0].shape) if size == 1]
    return torch.squeeze(values[0], tuple(axes))


def unsqueezed(node: Node, values: Sequence[Any]) -> Tensor:
    axes = given(node, values, 1, "axes")
    x = values[0]
    rank = x.dim() + len(axes)
    for axis in sorted(one % rank for one in axes):
        x = x.unsqueeze(axis)
    return x


def parts(node: Node, values: Sequence[Any]) -> tuple[Tensor, ...]:
    x, axis = values[0], int(node.attributes.get("axis", 0))
    sizes = given(node, values, 1, "split")
    if sizes:
        return torch.split(x, sizes, axis)
    return torch.split(x, -(-x.shape[axis] // len(node.outputs)), axis)


def sliced(node: Node, values: Sequence[Any]) -> Tensor:
    x = values[0]
    starts, ends = given(node, values, 1, "starts"), given(node, values, 2, "ends")
    axes = given(node, values, 3, "axes") or [*range(len(starts))]
    steps = given(node, values, 4, "steps") or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places = range(x.shape[axis])[start:end:step]
        if step > 0:
            x = x.narrow(axis, places.start, len(places)) if step == 1 else x.index_select(axis, torch.tensor([*places]))
        else:
            x = x.index_select(axis, torch.tensor([*places], dtype=torch.int64))
    return x


def gathered(node: Node, values: Sequence[Any]) -> Tensor:
    x, indices, axis = values[0], values[1], int(node.attributes.get("axis", 0))
    axis %= x.dim()
    indices = torch.where(indices < 0, indices + x.shape[axis], indices).long()
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def transposed(node: Node, values: Sequence[Any]) -> Tensor:
    return values[0].permute(tuple(node.attributes.get("perm", range(values[0].dim())[::-1])))


def cast(node: Node, values: Sequence[Any]) -> Tensor:
    wanted = int(node.attributes["to"])
    if wanted not in TYPES:
        raise PassFailed(f"'{node.name}' casts to a type that cannot be trained through.")
    return values[0].to(TYPES[wanted])


def expanded(node: Node, values: Sequence[Any]) -> Tensor:
    shape = torch.broadcast_shapes(values[0].shape, tuple(numbers(values[1])))
    return values[0].expand(shape)


def filled(node: Node, values: Sequence[Any]) -> Tensor:
    from onnx import numpy_helper

    value = node.attributes.get("value")
    held = torch.zeros(1) if value is None else torch.from_numpy(numpy_helper.to_array(value).copy())
    return held.reshape(()).expand(numbers(values[0])).clone()


def counted(node: Node, values: Sequence[Any]) -> Tensor:
    return torch.arange(*(one.item() for one in values), dtype=values[0].dtype)


def shape_of(node: Node, values: Sequence[Any]) -> Tensor:
    places = slice(int(node.attributes.get("start", 0)), node.attributes.get("end"))
    return torch.tensor([*values[0].shape][places], dtype=torch.int64)
