"""ONNX operators without weights of their own, as PyTorch computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from towline.optimize.training.reading import Node
from towline.optimize.training.rearranging import (
    cast,
    counted,
    expanded,
    filled,
    flattened,
    gathered,
    given,
    parts,
    reshaped,
    shape_of,
    sliced,
    squeezed,
    transposed,
    unsqueezed,
)
from towline.optimize.training.windows import averaged, convolved, convolved_back, maximum, padded, resized

Operator = Callable[[Node, Sequence[Any]], Any]


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


def _one(how: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, values: how(values[0])


def _two(how: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda node, values: how(values[0], values[1])


def _sloped(how: Callable[..., Tensor], word: str, otherwise: float) -> Operator:
    return lambda node, values: how(values[0], float(node.attributes.get(word, otherwise)))


def _selu(node: Node, values: Sequence[Any]) -> Tensor:
    alpha, gamma = float(node.attributes.get("alpha", 1.6732632)), float(node.attributes.get("gamma", 1.0507010))
    return gamma * F.elu(values[0], alpha)


OPERATORS: Mapping[str, Operator] = {
    "Abs": _one(torch.abs),
    "Add": _two(torch.add),
    "And": _two(torch.logical_and),
    "AveragePool": averaged,
    "BatchNormalization": _batch_norm,
    "Cast": cast,
    "Ceil": _one(torch.ceil),
    "Clip": _clip,
    "Concat": lambda node, values: torch.cat(tuple(values), int(node.attributes["axis"])),
    "ConstantOfShape": filled,
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
    "Expand": expanded,
    "Flatten": flattened,
    "Floor": _one(torch.floor),
    "Gather": gathered,
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
    "Range": counted,
    "Reciprocal": _one(torch.reciprocal),
    "ReduceL2": _reduce(lambda x, axes, keepdim: torch.linalg.vector_norm(x, 2, axes, keepdim)),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "ReduceSumSquare": _reduce(lambda x, axes, keepdim: torch.sum(x * x, axes, keepdim)),
    "Relu": _one(F.relu),
    "Reshape": reshaped,
    "Resize": resized,
    "Selu": _selu,
    "Shape": shape_of,
    "Sigmoid": _one(torch.sigmoid),
    "Sin": _one(torch.sin),
    "Slice": sliced,
    "Softmax": _softmax(F.softmax),
    "Softplus": _one(F.softplus),
    "Softsign": _one(F.softsign),
    "Split": parts,
    "Sqrt": _one(torch.sqrt),
    "Squeeze": squeezed,
    "Sub": _two(torch.sub),
    "Sum": _many(torch.add),
    "Tanh": _one(torch.tanh),
    "Transpose": transposed,
    "Unsqueeze": unsqueezed,
    "Upsample": resized,
    "Where": lambda node, values: torch.where(*values),
}
