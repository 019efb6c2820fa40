"""What a graph costs to run and to keep, by its shapes: multiply-adds for one row, and parameters."""

from __future__ import annotations

import math
from typing import Any

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("Gemm", "MatMul")
# A size that is free counts as this: the batch as one row, and a sequence or a side as one place of it.
_FREE = 1


def multiply_adds(model: Any) -> int:
    """Those of convolutions and matrix products of an onnx.ModelProto, for one row; what has no known shape counts nothing."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: _sizes(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    shapes.update({tensor.name: list(tensor.dims) for tensor in model.graph.initializer})
    return sum(_of(node, shapes) for node in model.graph.node if all(name in shapes for name in (*node.input[:2], node.output[0])))


def parameters(model: Any) -> int:
    """The numbers in the graph's weights: floats of more than one element."""
    floats = (1, 10, 11, 16)
    return sum(math.prod(one.dims) for one in model.graph.initializer if one.data_type in floats and math.prod(one.dims) > 1)


def _of(node: Any, shapes: dict[str, list[int]]) -> int:
    if node.op_type in _CONVOLUTIONS:
        # The weight is [made, taken / groups, kernel …], that of a transposed one [taken, made / groups, kernel …].
        kernel = shapes[node.input[1]]
        places = shapes[node.output[0]] if node.op_type == "Conv" else shapes[node.input[0]]
        return math.prod(places) * math.prod(kernel[1:])
    if node.op_type in _PRODUCTS:
        turned = any(one.name == "transA" and one.i for one in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if turned else -1]
    return 0


def _sizes(value: Any) -> list[int]:
    dims = value.type.tensor_type.shape.dim
    # The first axis is that of rows, also where the graph was written for several at once.
    return [_FREE if place == 0 else dim.dim_value or _FREE for place, dim in enumerate(dims)]
