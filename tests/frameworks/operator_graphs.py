"""One graph per operator set with every operator that can be trained, in the ways that exporters write it. onnx and numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from trainable_graphs import Drawing, Rows

FLOAT_TYPE = int(TensorProto.FLOAT)
_UNARY = (
    *("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Elu", "Selu", "Neg", "Relu"),
    *("Sigmoid", "Sin", "Softplus", "Softsign", "Tanh", "Softmax", "LogSoftmax", "GlobalAveragePool", "GlobalMaxPool"),
)
# Padding, pooling and convolving: uneven, automatic, dilated, rounded up.
_WINDOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("MaxPool", {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0]}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("MaxPool", {"kernel_shape": [2, 3], "dilations": [2, 1], "auto_pad": "VALID"}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
)
_CONVOLVED: tuple[dict[str, Any], ...] = (
    {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"pads": [0, 1, 2, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "VALID", "dilations": [2, 1]},
    {"group": 2, "pads": [1, 1, 1, 1]},
)


def every(opset: int) -> tuple[Any, Rows]:
    """x [N, 4, 9, 7] through a convolution, from there through each operator, all joined in the answer."""
    draw = Drawing(opset)
    x = draw.op("Conv", "x", draw.weight(4, 4, 1, 1), draw.weight(4))
    made = [draw.op(kind, x) for kind in _UNARY if (kind, opset < 14) != ("HardSwish", True)]
    made += [
        draw.op(kind, x, **words) for kind, words in _WINDOWS if opset >= 10 or ("ceil_mode" not in words and "dilations" not in words)
    ]
    for words in _CONVOLVED:
        made.append(draw.op("Conv", x, draw.weight(6, 4 // words.get("group", 1), 3, 3), draw.weight(6), **words))
    made += _turned_back(draw, x) + _pairs(draw, x, opset) + _shapes(draw, x, opset) + _norms(draw, x)
    made += _legacy(draw, x) if opset < 10 else _recent(draw, x, opset)
    flat = [draw.op("Reshape", one, draw.whole(5, -1)) for one in made]
    return draw.model([("f:x", (5, 4, 9, 7))], draw.op("Concat", *flat, axis=1), (5, "M"), opset), {"x": draw.pixels(5, 4, 9, 7)}


def _turned_back(draw: Drawing, x: str) -> list[str]:
    wide = [{"strides": [2, 2], "pads": [1, 0, 1, 0], "output_padding": [1, 0]}, {"pads": [0, 1, 1, 0]}, {"group": 2}]
    return [draw.op("ConvTranspose", x, draw.weight(4, 6 // words.get("group", 1), 3, 3), draw.weight(6), **words) for words in wide]


def _pairs(draw: Drawing, x: str, opset: int) -> list[str]:
    other = draw.op("Relu", x)
    made = [draw.op(kind, x, other) for kind in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")]
    positive = draw.op("Add", draw.op("Abs", x), draw.held(0.5))
    made += [draw.op("Div", x, positive), *(draw.op(kind, positive) for kind in ("Sqrt", "Log", "Reciprocal"))]
    made += [draw.op("Pow", positive, draw.held(power)) for power in (2.0, 0.5)]
    made += [draw.op("Pow", x, draw.held(np.array([3.0], np.float32)))]
    above = draw.op("Greater", x, draw.held(0.0))
    made += [draw.op("Where", above, x, other), draw.op("Where", draw.op("Not", above), x, draw.held(1.0))]
    bounds = [draw.op(kind, x, draw.held(0.1)) for kind in ("Less", "Greater")] + (
        [draw.op(kind, x, other) for kind in ("Equal", "GreaterOrEqual", "LessOrEqual")] if opset > 11 else []
    )
    made += [draw.op("Cast", one, to=FLOAT_TYPE) for one in [*bounds, draw.op("And", *bounds[:2]), draw.op("Or", *bounds[:2])]]
    made += [draw.op("PRelu", x, draw.held(draw.rng.uniform(0, 0.5, shape).astype(np.float32))) for shape in ((4, 1, 1), (1,), (7,))]
    made += [draw.op("MatMul", x, draw.op("Transpose", other, perm=[0, 1, 3, 2])), draw.op("MatMul", x, draw.weight(7, 3))]
    rows = draw.op("Flatten", x)
    made += [draw.op("Gemm", rows, draw.weight(252, 3), draw.weight(3), alpha=0.5, beta=2.0)]
    made += [draw.op("Gemm", draw.op("Transpose", rows), draw.weight(3, 252), draw.weight(3), transA=1, transB=1)]
    return made


def _shapes(draw: Drawing, x: str, opset: int) -> list[str]:
    made = [draw.op("Transpose", x, perm=[0, 2, 3, 1]), draw.op("Concat", x, x, axis=-1)]
    size = draw.op("Shape", x)
    if opset >= 10:
        some = [draw.whole(*one) for one in ((1, -2), (3, 2**62), (1, 3), (1, 2))]
        made += [draw.op("Slice", x, *some), draw.op("Slice", x, draw.whole(-1), draw.whole(-(2**62)), draw.whole(2), draw.whole(-1))]
        width = draw.op("Slice", size, draw.whole(2), draw.whole(4), draw.whole(0))
        made.append(draw.op("Expand", draw.op("GlobalMaxPool", x), draw.op("Concat", draw.whole(5, 4), width, axis=0)))
        filled = numpy_helper.from_array(np.array([2.5], np.float32))
        made.append(draw.op("Add", x, draw.op("ConstantOfShape", size, value=filled)))
    made += [draw.op("Gather", x, draw.held(np.array([[3, 0], [-1, 1]])), axis=1), draw.op("Gather", x, draw.held(np.int64(2)), axis=3)]
    count = draw.op("Gather", size, draw.held(np.int64(1)))
    made.append(
        draw.op("Mul", x, draw.op("Cast", draw.op("Div", draw.op("Mul", count, draw.held(np.int64(7))), draw.held(np.int64(2))), to=1))
    )
    kinds = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare") if opset < 18 else ()
    made += [draw.op(kind, x, axes=[1, -1], keepdims=keep) for kind in kinds for keep in (0, 1)]
    return made


def _norms(draw: Drawing, x: str) -> list[str]:
    again = draw.op("InstanceNormalization", x, draw.spread(4), draw.weight(4), epsilon=1e-3)
    return [again, draw.norm(x, 4), draw.op("BatchNormalization", x, *(draw.spread(4) for _ in range(4)), epsilon=1e-2)]


def _legacy(draw: Drawing, x: str) -> list[str]:
    """What later sets give as inputs is an attribute here; Softmax goes over all axes from one on."""
    one = draw.op("Unsqueeze", x, axes=[0, 5])
    halves = [draw.op("Split", x, axis=2, split=[9])]
    whole = [draw.op("Squeeze", one, axes=[0]), draw.op("ReduceSum", x, axes=[3]), draw.op("Softmax", x, axis=2), draw.op("Dropout", x)]
    padded = [draw.op("Pad", x, pads=[0, 0, 1, 2, 0, 0, 0, 3], value=0.5), draw.op("Slice", x, starts=[1, -3], ends=[9, 99], axes=[1, 2])]
    larger = draw.op("Upsample", x, draw.held(np.array([1, 1, 2, 3], np.float32)), mode="nearest")
    return [*whole, *halves, *padded, draw.op("Clip", x, min=-0.2, max=0.3), larger]


def _recent(draw: Drawing, x: str, opset: int) -> list[str]:
    made = [draw.op("Squeeze", draw.op("Unsqueeze", x, draw.whole(0, 5)), draw.whole(0)), draw.op("ReduceSum", x, draw.whole(3))]
    made += [draw.op("Clip", x, draw.held(low), draw.held(high)) for low, high in ((0.0, 6.0), (-0.3, 0.2))]
    made += [draw.op("Clip", x, draw.held(-0.1)), draw.op("Softmax", x, axis=1), draw.op("Split", x, draw.whole(9), axis=2)]
    made += [draw.op("LayerNormalization", x, draw.spread(7), draw.weight(7), axis=-1)]
    whole = draw.held(draw.rng.uniform(0.5, 1.5, (9, 7)).astype(np.float32))
    made += [draw.op("LayerNormalization", x, whole, axis=2, epsilon=1e-3)]
    around = draw.whole(0, 0, 1, 2, 0, 0, 0, 3)
    made += [draw.op("Pad", x, around, draw.held(0.5)), *(draw.op("Pad", x, around, mode=mode) for mode in ("reflect", "edge"))]
    made += [draw.op("Pad", x, draw.whole(0, 0, -1, 0, 0, 0, -2, 0))]
    double = draw.held(np.array([1, 1, 2, 2], np.float32))
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    made += [draw.op("Resize", x, "", double), draw.op("Resize", x, "", "", draw.whole(5, 4, 13, 10), **nearest)]
    for place in ("half_pixel", "align_corners"):
        words = {"mode": "linear", "coordinate_transformation_mode": place}
        made.append(draw.op("Resize", x, "", "", draw.whole(5, 4, 13, 10), **words))
    if opset >= 18:
        made += [draw.op("ReduceMean", x, draw.whole(1, 3)), draw.op("Mish", x)]
    if opset >= 20:
        made += [draw.op("Gelu", x), draw.op("Gelu", x, approximate="tanh")]
        made += [draw.op("Range", draw.held(np.float32(0)), draw.held(np.float32(5)), draw.held(np.float32(1)))]
    if opset >= 21:
        made.append(draw.op("GroupNormalization", x, draw.spread(4), draw.weight(4), num_groups=2))
    return made


def with_all_outputs(model: Any) -> Any:
    """The same graph, which answers with every inner tensor as well."""
    known = {one.name for one in model.graph.output}
    for node in model.graph.node:
        model.graph.output.extend([helper.make_empty_tensor_value_info(name) for name in node.output if name not in known])
    return model
