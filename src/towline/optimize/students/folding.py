"""Batch norms folded into the convolutions before them, once a student has been trained: w' = w s, b' = (b - mean) s + shift, with
s = scale / sqrt(var + epsilon) per channel."""

from __future__ import annotations

from typing import Any

import numpy as np


def folded(model: Any) -> Any:
    """`model` (an onnx.ModelProto), changed in place: the same answers, with fewer operators. A norm that is not alone in reading its
    convolution stays."""
    from onnx import numpy_helper

    graph = model.graph
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    readers: dict[str, int] = {value.name: 1 for value in graph.output}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    made_by = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization" and len(node.output) == 1]:
        before = made_by.get(norm.input[0])
        alone = before is not None and readers[norm.input[0]] == 1 and readers[before.input[1]] == 1
        if before is None or not alone or not all(name in weights for name in (*norm.input[1:], *before.input[1:])):
            continue
        epsilon = next((one.f for one in norm.attribute if one.name == "epsilon"), 1e-5)
        scale, shift, mean, var = (weights[name].astype(np.float64) for name in norm.input[1:])
        by = scale / np.sqrt(var + epsilon)
        weight = weights[before.input[1]]
        bias = weights[before.input[2]] if len(before.input) > 2 else np.zeros(len(weight))
        weights[before.input[1]] = (weight * by.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype)
        # A bias may be shared, so the folded one has a name of its own.
        name = f"{norm.output[0]}.bias"
        weights[name] = ((bias - mean) * by + shift).astype(weight.dtype)
        del before.input[2:]
        before.input.append(name)
        before.output[0] = norm.output[0]
        graph.node.remove(norm)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    del graph.initializer[:]
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items() if name in read)
    return model
