"""ONNX operators without weights of their own, as PyTorch computes them. Whole numbers, such as shapes, go through the same functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from towline.optimize.base import PassFailed
from towline.optimize.training.reading import Node
from towline.optimize.training.windows import averaged, convolved, convolved_back, maximum, padded, resized

Operator = Callable[[Node, Sequence[Any]], Any]

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


def _reshape(node: Node, values: Sequence[Any]) -> Tensor:
    x, target = values[0], given(node, values, 1, "shape")
    if target == [0, -1]:
        # Said as a flatten, it holds for any width, and tells a tracer so.
        return torch.flatten(x, 1)
    sizes = [x.shape[place] if size == 0 and not node.attributes.get("allowzero") else size for place, size in enumerate(target)]
    return torch.reshape(x, sizes)


def _flatten(node: Node, values: Sequence[Any]) -> Tensor:
    x, axis = values[0], int(node.attributes.get("axis", 1))
    if axis == 1:
        return torch.flatten(x, 1)
    axis = axis % x.dim() if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def _squeeze(node: Node, values: Sequence[Any]) -> Tensor:
    axes = given(node, values, 1, "axes") or [place for place, size in enumerate(values[0].shape) if size == 1]
    return torch.squeeze(values[0], tuple(axes))


def _unsqueeze(node: Node, values: Sequence[Any]) -> Tensor:
    axes = given(node, values, 1, "axes")
    x = values[0]
    rank = x.dim() + len(axes)
    for axis in sorted(one % rank for one in axes):
        x = x.unsqueeze(axis)
    return x


def _split(node: Node, values: Sequence[Any]) -> tuple[Tensor, ...]:
    x, axis = values[0], int(node.attributes.get("axis", 0))
    sizes = given(node, values, 1, "split")
    if sizes:
        return torch.split(x, sizes, axis)
    return torch.split(x, -(-x.shape[axis] // len(node.outputs)), axis)


def _slice(node: Node, values: Sequence[Any]) -> Tensor:
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


def _gather(node: Node, values: Sequence[Any]) -> Tensor:
    x, indices, axis = values[0], values[1], int(node.attributes.get("axis", 0))
    axis %= x.dim()
    indices = torch.where(indices < 0, indices + x.shape[axis], indices).long()
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _transpose(node: Node, values: Sequence[Any]) -> Tensor:
    return values[0].permute(tuple(node.attributes.get("perm", range(values[0].dim())[::-1])))


def _cast(node: Node, values: Sequence[Any]) -> Tensor:
    wanted = int(node.attributes["to"])
    if wanted not in TYPES:
        raise PassFailed(f"'{node.name}' casts to a type that cannot be trained through.")
    return values[0].to(TYPES[wanted])


def _expand(node: Node, values: Sequence[Any]) -> Tensor:
    shape = torch.broadcast_shapes(values[0].shape, tuple(numbers(values[1])))
    return values[0].expand(shape)


def _filled(node: Node, values: Sequence[Any]) -> Tensor:
    from onnx import numpy_helper

    value = node.attributes.get("value")
    held = torch.zeros(1) if value is None else torch.from_numpy(numpy_helper.to_array(value).copy())
    return held.reshape(()).expand(numbers(values[0])).clone()


def _reduce(how: Callable[..., Tensor]) -> Operator:
    def reduce(node: Node, values: Sequence[Any]) -> Tensor:
        x = values[0]
        axes = given(node, values, 1, "axes")
        if not axes and node.attributes.get("noop_with_empty_axes"):
            return x
        return how(x, tuple(axes) or tuple(range(x.dim())), keepdim=bool(node.attributes.get("keepdims", 1)))

    return reduce


def _clip(node: Node, values: Sequence[Any]) -> Tensor:
    low, high = ((values[place] if len(values) > place else None) for place in (1, 2))
    bounds = [node.attributes.get(word) if held is None else float(held) for held, word in ((low, "min"), (high, "max"))]
    if bounds == [0.0, 6.0]:
        return F.relu6(values[0])
    return torch.clamp(values[0], *bounds)


def _softmax(how: Callable[..., Tensor]) -> Operator:
    def softmax(node: Node, values: Sequence[Any]) -> Tensor:
        x = values[0]
        if node.opset >= 13:
            return how(x, dim=int(node.attributes.get("axis", -1)))
        # Before operator set 13: over all axes from this one on.
        axis = int(node.attributes.get("axis", 1)) % max(x.dim(), 1)
        return how(x.flatten(axis), dim=-1).reshape(x.shape)

    return softmax


def _gelu(node: Node, values: Sequence[Any]) -> Tensor:
    return F.gelu(values[0], approximate=bytes(node.attributes.get("approximate", b"none")).decode())


def _divide(node: Node, values: Sequence[Any]) -> Tensor:
    a, b = values
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _pow(node: Node, values: Sequence[Any]) -> Tensor:
    x, power = values
    # A constant square has a cheaper and exact derivative.
    return x * x if power.dim() == 0 and power == 2 else torch.pow(x, power).to(x.dtype)


def _many(how: Callable[[Any, Any], Tensor]) -> Operator:
    def fold(node: Node, values: Sequence[Any]) -> Tensor:
        x = values[0]
        for other in values[1:]:
            x = how(x, other)
        return x

    return fold


def _global(how: Callable[..., Tensor]) -> Operator:
    return lambda node, values: how(values[0], tuple(range(2, values[0].dim())), keepdim=True)


def _layer_norm(node: Node, values: Sequence[Any]) -> Tensor:
    x, scale, *bias = values
    axis = int(node.attributes.get("axis", -1)) % x.dim()
    return F.layer_norm(x, x.shape[axis:], scale, bias[0] if bias else None, float(node.attributes.get("epsilon", 1e-5)))


def _instance_norm(node: Node, values: Sequence[Any]) -> Tensor:
    x, scale, bias = values
    return F.instance_norm(x, weight=scale, bias=bias, eps=float(node.attributes.get("epsilon", 1e-5)))


def _group_norm(node: Node, values: Sequence[Any]) -> Tensor:
    x, scale, bias = values
    groups = int(node.attributes["num_groups"])
    if scale.shape[0] == groups and scale.shape[0] != x.shape[1]:
        scale, bias = (one.repeat_interleave(x.shape[1] // groups) for one in (scale, bias))
    return F.group_norm(x, groups, scale, bias, float(node.attributes.get("epsilon", 1e-5)))


def _batch_norm(node: Node, values: Sequence[Any]) -> Tensor:
    x, scale, bias, mean, variance = values
    return F.batch_norm(x, mean, variance, scale, bias, eps=float(node.attributes.get("epsilon", 1e-5)))


def _gemm(node: Node, values: Sequence[Any]) -> Tensor:
    a, b, *c = values
    a = a.t() if node.attributes.get("transA") else a
    b = b.t() if node.attributes.get("transB") else b
    answer = float(node.attributes.get("alpha", 1.0)) * (a @ b)
    return answer + float(node.attributes.get("beta", 1.0)) * c[0] if c and c[0] is not None else answer


def _prelu(node: Node, values: Sequence[Any]) -> Tensor:
    x, slope = values
    return torch.where(x < 0, x * slope, x)


def _hard_sigmoid(node: Node, values: Sequence[Any]) -> Tensor:
    return torch.clamp(values[0] * float(node.attributes.get("alpha", 0.2)) + float(node.attributes.get("beta", 0.5)), 0, 1)


def _range(node: Node, values: Sequence[Any]) -> Tensor:
    return torch.arange(*(one.item() for one in values), dtype=values[0].dtype)


def _one(how: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, values: how(values[0])


def _two(how: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda node, values: how(values[0], values[1])


def _sloped(how: Callable[..., Tensor], word: str, otherwise: float) -> Operator:
    return lambda node, values: how(values[0], float(node.attributes.get(word, otherwise)))


def _shape(node: Node, values: Sequence[Any]) -> Tensor:
    places = slice(int(node.attributes.get("start", 0)), node.attributes.get("end"))
    return torch.tensor([*values[0].shape][places], dtype=torch.int64)


OPERATORS: Mapping[str, Operator] = {
    "Abs": _one(torch.abs),
    "Add": _two(torch.add),
    "And": _two(torch.logical_and),
    "AveragePool": averaged,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Ceil": _one(torch.ceil),
    "Clip": _clip,
    "Concat": lambda node, values: torch.cat(tuple(values), int(node.attributes["axis"])),
    "ConstantOfShape": _filled,
    "Conv": convolved,
    "ConvTranspose": convolved_back,
    "Cos": _one(torch.cos),
    "Div": _divide,
    # A graph that serves has none; one that was exported while it trained has them for nothing.
    "Dropout": _one(lambda x: x),
    "Elu": _sloped(F.elu, "alpha", 1.0),
    "Equal": _two(torch.eq),
    "Erf": _one(torch.erf),
    "Exp": _one(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _one(torch.floor),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "Greater": _two(torch.gt),
    "GreaterOrEqual": _two(torch.ge),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _one(F.hardswish),
    "Identity": _one(lambda x: x),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _sloped(F.leaky_relu, "alpha", 0.01),
    "Less": _two(torch.lt),
    "LessOrEqual": _two(torch.le),
    "Log": _one(torch.log),
    "LogSoftmax": _softmax(F.log_softmax),
    "MatMul": _two(torch.matmul),
    "Max": _many(torch.maximum),
    "MaxPool": maximum,
    "Mean": lambda node, values: _many(torch.add)(node, values) / len(values),
    "Min": _many(torch.minimum),
    "Mish": _one(F.mish),
    "Mul": _two(torch.mul),
    "Neg": _one(torch.neg),
    "Not": _one(torch.logical_not),
    "Or": _two(torch.logical_or),
    "PRelu": _prelu,
    "Pad": padded,
    "Pow": _pow,
    "Range": _range,
    "Reciprocal": _one(torch.reciprocal),
    "ReduceL2": _reduce(lambda x, axes, keepdim: torch.linalg.vector_norm(x, 2, axes, keepdim)),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "ReduceSumSquare": _reduce(lambda x, axes, keepdim: torch.sum(x * x, axes, keepdim)),
    "Relu": _one(F.relu),
    "Reshape": _reshape,
    "Resize": resized,
    "Selu": lambda node, values: _selu(node, values[0]),
    "Shape": _shape,
    "Sigmoid": _one(torch.sigmoid),
    "Sin": _one(torch.sin),
    "Slice": _slice,
    "Softmax": _softmax(F.softmax),
    "Softplus": _one(F.softplus),
    "Softsign": _one(F.softsign),
    "Split": _split,
    "Sqrt": _one(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _two(torch.sub),
    "Sum": _many(torch.add),
    "Tanh": _one(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": resized,
    "Where": lambda node, values: torch.where(*values),
}


def _selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = float(node.attributes.get("alpha", 1.6732632)), float(node.attributes.get("gamma", 1.0507010))
    return gamma * F.elu(x, alpha)
