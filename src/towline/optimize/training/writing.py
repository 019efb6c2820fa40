"""Write the weights of a trained module back into the graph that it was made of: same names, same nodes, same metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn

from towline.optimize.training.graph import Trainable
from towline.optimize.training.layers import Held
from towline.optimize.training.reading import constant_of, read_proto


def write_trained(module: Trainable, model: Path, into: Path) -> Path:
    """Write `into/model.onnx`: the graph of `model`, which `module` was made of, with the weights and widths it has now."""
    proto = read_proto(model)
    trained = {name: (place, held) for name, (place, held) in module.held.items()}
    wider = False
    for tensor in proto.graph.initializer:
        if tensor.name in trained:
            wider |= _replace(tensor, _as_held(module, *trained[tensor.name], numpy_helper.to_array(tensor)))
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.output[0] in trained:
            (value,) = (one for one in node.attribute)
            wider |= _replace(value.t, _as_held(module, *trained[node.output[0]], constant_of(node)))
    if wider:
        _write_groups(module, proto.graph)
        # The shapes that were noted for inner tensors are those of before.
        del proto.graph.value_info[:]
    onnx.save(proto, into / "model.onnx")
    return into / "model.onnx"


def _as_held(module: Trainable, place: str, held: Held, before: np.ndarray) -> np.ndarray:
    owner = module.get_submodule(place)
    array: np.ndarray = getattr(owner, held.attribute).detach().cpu().numpy()
    array = array.T if held.transposed else array
    if array.ndim != before.ndim:
        # A slope per channel is (C, 1, 1) in a graph, and (C) in a layer.
        array = array.reshape(before.shape if array.size == before.size else (-1, *before.shape[1:]))
    return np.ascontiguousarray(array)


def _replace(tensor: Any, array: np.ndarray) -> bool:
    """Put an array into a tensor of the graph. Whether its shape is another one."""
    before = tuple(tensor.dims)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return before != array.shape


def _write_groups(module: Trainable, graph: Any) -> None:
    """A depthwise convolution has as many groups as channels."""
    layers = module.layers
    for node in graph.node:
        layer = layers.get(node.name)
        if isinstance(layer, nn.modules.conv._ConvNd):
            for attribute in node.attribute:
                if attribute.name == "group":
                    attribute.i = layer.groups
