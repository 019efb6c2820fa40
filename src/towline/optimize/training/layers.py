"""Operators with weights, as PyTorch's own layers: what optimizers, pruning and fake quantisation know how to treat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from towline.optimize.training.reading import Graph, Node, is_float
from towline.optimize.training.windows import even, pads, widened, words

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONV_BACK = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Held:
    """Where a layer keeps the initializer `name`: its attribute, and whether transposed."""

    name: str
    attribute: str
    transposed: bool = False


@dataclass(frozen=True)
class Layer:
    """A layer made of a node, and what of the graph it holds."""

    module: nn.Module
    held: tuple[Held, ...]


def layer_of(node: Node, graph: Graph) -> Layer | None:
    """The layer that a node is, None for one without constant weights of a shape that PyTorch has a layer for."""
    make = _MAKERS.get(node.op)
    return make(node, graph.constants) if make else None


def call(node: Node, layer: nn.Module, values: Sequence[Any]) -> Tensor:
    """What the layer makes of a node's inputs, prepared as its operator prepares them."""
    x = values[0]
    if node.op == "Gather":
        rows = values[1]
        return layer(torch.where(rows < 0, rows + layer.num_embeddings, rows))
    if node.op == "Conv":
        around = pads(node.attributes, x.shape[2:], layer.kernel_size)
        same = even(around) and tuple(before for before, _ in around) == layer.padding
        return layer(x if same else widened(x, around))
    return layer(x)


def _weights(node: Node, constants: Mapping[str, np.ndarray], first: int = 1) -> list[np.ndarray] | None:
    """The float constants from this input on, None when one is computed."""
    held = [constants.get(name) for name in node.inputs[first:] if name]
    return [one for one in held if one is not None] if all(one is not None and is_float(one) for one in held) else None


def _conv(node: Node, constants: Mapping[str, np.ndarray]) -> Layer | None:
    weights = _weights(node, constants)
    if weights is None:
        return None
    weight, groups = weights[0], int(node.attributes.get("group", 1))
    kernel = weight.shape[2:]
    strides, dilations = words(node.attributes, len(kernel))
    around = pads(node.attributes, kernel, kernel) if not node.attributes.get("auto_pad", b"").startswith(b"SAME") else [(0, 1)]
    # What is uneven or depends on the input's size is put around the input before.
    padding = tuple(before for before, _ in around) if even(around) else 0
    kind = _CONV[len(kernel) - 1]
    module = kind(weight.shape[1] * groups, weight.shape[0], kernel, strides, padding, dilations, groups, len(weights) > 1)
    return _filled(module, node, weights, ("weight", "bias"))


def _conv_back(node: Node, constants: Mapping[str, np.ndarray]) -> Layer | None:
    weights = _weights(node, constants)
    if weights is None or "output_shape" in node.attributes or node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    weight, groups = weights[0], int(node.attributes.get("group", 1))
    kernel = weight.shape[2:]
    strides, dilations = words(node.attributes, len(kernel))
    around = pads(node.attributes, kernel, kernel)
    if not even(around):
        return None
    padding, more = [before for before, _ in around], [*node.attributes.get("output_padding", [0] * len(kernel))]
    kind = _CONV_BACK[len(kernel) - 1]
    module = kind(weight.shape[0], weight.shape[1] * groups, kernel, strides, padding, more, groups, len(weights) > 1, dilations)
    return _filled(module, node, weights, ("weight", "bias"))


def _gemm(node: Node, constants: Mapping[str, np.ndarray]) -> Layer | None:
    weights = _weights(node, constants)
    plain = all(float(node.attributes.get(word, 1.0)) == 1.0 for word in ("alpha", "beta")) and not node.attributes.get("transA")
    if weights is None or not plain:
        return None
    transposed = not node.attributes.get("transB")
    width = weights[0].shape[1 if transposed else 0]
    if len(weights) > 1 and weights[1].shape != (width,):
        return None
    module = nn.Linear(weights[0].shape[0 if transposed else 1], width, len(weights) > 1)
    return _filled(module, node, weights, ("weight", "bias"), transposed)


def _matmul(node: Node, constants: Mapping[str, np.ndarray]) -> Layer | None:
    weights = _weights(node, constants)
    if weights is None or weights[0].ndim != 2:
        return None
    return _filled(nn.Linear(*weights[0].shape, bias=False), node, weights, ("weight",), transposed=True)


def _norm(node: Node, constants: Mapping[str, np.ndarray]) -> Layer | None:
    weights = _weights(node, constants)
    if weights is None:
        return None
    epsilon, kept = float(node.attributes.get("epsilon", 1e-5)), float(node.attributes.get("momentum", 0.9))
    module = AnyBatchNorm(weights[0].shape[0], eps=epsilon, momentum=1 - kept)
    return _filled(module, node, weights, ("weight", "bias", "running_mean", "running_var"))


def _layer_norm(node: Node, constants: Mapping[str, np.ndarray]) -> Layer | None:
    weights = _weights(node, constants)
    if weights is None:
        return None
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    module = nn.LayerNorm(weights[0].shape, eps=epsilon, bias=len(weights) > 1)
    return _filled(module, node, weights, ("weight", "bias")) if weights[0].ndim == 1 else None


def _embedding(node: Node, constants: Mapping[str, np.ndarray]) -> Layer | None:
    table = constants.get(node.inputs[0])
    if table is None or not is_float(table) or table.ndim != 2 or node.attributes.get("axis", 0) or node.inputs[1] in constants:
        return None
    module = nn.Embedding(*table.shape)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(table.copy()))
    return Layer(module, (Held(node.inputs[0], "weight"),))


def _prelu(node: Node, constants: Mapping[str, np.ndarray]) -> Layer | None:
    slope = constants.get(node.inputs[1])
    # One slope for all, or one per channel: (C, 1, 1).
    if slope is None or not is_float(slope) or (slope.size > 1 and (slope.ndim == 1 or slope.shape[0] != slope.size)):
        return None
    module = nn.PReLU(slope.size)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(slope.reshape(-1).copy()))
    return Layer(module, (Held(node.inputs[1], "weight"),))


class AnyBatchNorm(nn.BatchNorm2d):
    """A batch norm over axis 1 of any number of axes: a graph does not always say how many there are."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Two axes and more will do."""


def _filled(module: nn.Module, node: Node, weights: Sequence[np.ndarray], attributes: Sequence[str], transposed: bool = False) -> Layer:
    names = [name for name in node.inputs[1:] if name]
    held = []
    with torch.no_grad():
        for name, weight, attribute in zip(names, weights, attributes, strict=False):
            turned = transposed and attribute == "weight"
            getattr(module, attribute).copy_(torch.from_numpy(np.array(weight.T if turned else weight)))
            held.append(Held(name, attribute, turned))
    return Layer(module, tuple(held))


_MAKERS = {
    "Conv": _conv,
    "ConvTranspose": _conv_back,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _norm,
    "LayerNormalization": _layer_norm,
    "Gather": _embedding,
    "PRelu": _prelu,
}
