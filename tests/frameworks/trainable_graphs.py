"""Small graphs of the kinds that people train: each as a model and rows that it can be asked. Random weights; onnx and numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Rows = Mapping[str, np.ndarray]
Sized = tuple[str, tuple[int | str, ...]]
_TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}


class Drawing:
    """A graph that is drawn node by node: `op` returns the name of what a node makes, `weight` that of an initializer."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=attributes.pop("name", ""), **attributes))
        return output

    def weight(self, *shape: int, scale: float = 0.0) -> str:
        spread = scale or 1 / np.sqrt(max(1, np.prod(shape[1:])))
        return self.held(self.rng.normal(0, spread, shape).astype(np.float32))

    def spread(self, size: int) -> str:
        """About one: scales and variances."""
        return self.held(self.rng.uniform(0.5, 1.5, size).astype(np.float32))

    def held(self, values: Any, kind: Any = np.float32) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights[name] = np.asarray(values, getattr(values, "dtype", kind))
        return name

    def whole(self, *values: int) -> str:
        return self.held(np.array(values, np.int64))

    def model(self, inputs: list[Sized], answer: str, shape: tuple[int | str, ...], opset: int = 17) -> Any:
        self.nodes.append(helper.make_node("Identity", [answer], ["y"], name="answer"))
        given = [helper.make_tensor_value_info(name[2:], _TYPES[name[0]], size) for name, size in inputs]
        answers = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
        weights = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "drawn", given, answers, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        model.metadata_props.add(key="drawn by", value="a test")
        onnx.checker.check_model(model)
        return model

    def norm(self, x: str, width: int) -> str:
        small = [self.weight(width, scale=0.1) for _ in range(2)]
        return self.op("BatchNormalization", x, self.spread(width), *small, self.spread(width))

    def dense(self, x: str, before: int, after: int) -> str:
        """MatMul and Add, as Keras and encoders have it."""
        return self.op("Add", self.op("MatMul", x, self.weight(before, after)), self.weight(after, scale=0.1))

    def pixels(self, *shape: int) -> np.ndarray:
        return self.rng.normal(0, 1, shape).astype(np.float32)


def cnn() -> tuple[Any, Rows]:
    """As PyTorch exports one for 28 x 28 digits, with a batch norm and a fixed flatten."""
    draw = Drawing()
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    x = draw.norm(draw.op("Conv", "x", draw.weight(8, 1, 3, 3), pads=[1, 1, 1, 1], name="first"), 8)
    x = draw.op("MaxPool", draw.op("Relu", x), **window)
    x = draw.op("Conv", x, draw.weight(16, 8, 3, 3), draw.weight(16, scale=0.1), pads=[1, 1, 1, 1], name="second")
    x = draw.op("MaxPool", draw.op("Relu", x), **window)
    x = draw.op("Reshape", x, draw.whole(-1, 16 * 49))
    x = draw.op("Relu", draw.op("Gemm", x, draw.weight(32, 784), draw.weight(32, scale=0.1), transB=1, name="dense"))
    x = draw.op("Gemm", x, draw.weight(32, 10, scale=0.1), draw.weight(10, scale=0.1), name="last")
    return draw.model([("f:x", ("N", 1, 28, 28))], draw.op("Softmax", x), ("N", 10)), {"x": draw.pixels(5, 1, 28, 28)}


def keras() -> tuple[Any, Rows]:
    """As tf2onnx writes a Keras model: channels last, Transposes around, padding that is uneven, dense layers in two nodes."""
    draw = Drawing()
    x = draw.op("Transpose", "x", perm=[0, 3, 1, 2])
    x = draw.op("Conv", x, draw.weight(8, 3, 3, 3), draw.weight(8, scale=0.1), auto_pad="SAME_UPPER", strides=[2, 2], name="first")
    x = draw.op("Transpose", draw.op("Relu", x), perm=[0, 2, 3, 1])
    x = draw.op("Transpose", x, perm=[0, 3, 1, 2])
    x = draw.op("Conv", x, draw.weight(8, 1, 3, 3), group=8, pads=[0, 0, 1, 1], strides=[2, 2], name="depthwise")
    x = draw.op("Clip", draw.norm(x, 8), draw.held(0.0), draw.held(6.0))
    x = draw.op("Conv", x, draw.weight(12, 8, 1, 1), draw.weight(12, scale=0.1), name="pointwise")
    x = draw.op("AveragePool", draw.op("Elu", x), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    x = draw.op("Reshape", draw.op("Transpose", x, perm=[0, 2, 3, 1]), draw.whole(-1, 4 * 4 * 12))
    x = draw.dense(draw.op("LeakyRelu", draw.dense(x, 192, 16), alpha=0.2), 16, 5)
    return draw.model([("f:x", ("N", 32, 32, 3))], draw.op("Softmax", x), ("N", 5)), {"x": draw.pixels(5, 32, 32, 3)}


def mobile() -> tuple[Any, Rows]:
    """MobileNetV2's inverted residuals, small: depthwise convolutions, ReLU6, sums."""
    draw = Drawing()
    low, high = draw.held(0.0), draw.held(6.0)

    def unit(x: str, before: int, after: int, size: int, stride: int = 1, groups: int = 1, active: bool = True) -> str:
        words = {"strides": [stride, stride], "pads": [size // 2] * 4, "group": groups}
        x = draw.norm(draw.op("Conv", x, draw.weight(after, before // groups, size, size), **words), after)
        return draw.op("Clip", x, low, high) if active else x

    x = unit(unit(unit("x", 3, 16, 3, 2), 16, 16, 3, 1, 16), 16, 8, 1, active=False)
    for before, after, stride in ((8, 12, 2), (12, 12, 1), (12, 12, 1)):
        wide = before * 6
        inner = unit(unit(unit(x, before, wide, 1), wide, wide, 3, stride, wide), wide, after, 1, active=False)
        x = draw.op("Add", x, inner) if before == after else inner
    x = draw.op("Flatten", draw.op("GlobalAveragePool", unit(x, 12, 64, 1)))
    x = draw.op("Gemm", x, draw.weight(10, 64), draw.weight(10, scale=0.1), transB=1)
    return draw.model([("f:x", ("N", 3, 32, 32))], x, ("N", 10)), {"x": draw.pixels(5, 3, 32, 32)}


def grouped() -> tuple[Any, Rows]:
    """ResNeXt's blocks, small: a convolution in four groups between two that mix all, added to where they began; and one in two groups."""
    draw = Drawing()
    x = draw.op("Relu", draw.norm(draw.op("Conv", "x", draw.weight(16, 3, 3, 3), strides=[2, 2], name="stem"), 16))
    inner = draw.op("Relu", draw.norm(draw.op("Conv", x, draw.weight(32, 16, 1, 1), name="before"), 32))
    parted = draw.op("Conv", inner, draw.weight(32, 8, 3, 3), draw.weight(32, scale=0.1), pads=[1, 1, 1, 1], group=4, name="grouped")
    x = draw.op("Add", x, draw.norm(draw.op("Conv", draw.op("Relu", parted), draw.weight(16, 32, 1, 1), name="after"), 16))
    x = draw.op("Conv", draw.op("Relu", x), draw.weight(24, 8, 3, 3), group=2, name="wider")
    x = draw.op("Flatten", draw.op("GlobalAveragePool", draw.op("Relu", x)))
    x = draw.op("Gemm", x, draw.weight(10, 24), draw.weight(10, scale=0.1), transB=1)
    return draw.model([("f:x", ("N", 3, 16, 16))], x, ("N", 10)), {"x": draw.pixels(5, 3, 16, 16)}


def encoder() -> tuple[Any, Rows]:
    """Two layers of attention over words, with a mask, the shapes computed from the input, and one norm in small pieces."""
    draw = Drawing()
    width, heads = 16, 2
    shape = draw.op("Shape", "ids")
    rows, length = (draw.op("Unsqueeze", draw.op("Gather", shape, draw.held(np.int64(axis))), draw.whole(0)) for axis in (0, 1))
    places = draw.op("Slice", draw.weight(1, 32, width), draw.whole(0), length, draw.whole(1), draw.whole(1))
    x = draw.op("Add", draw.op("Gather", draw.weight(50, width), "ids"), places)
    unseen = draw.op("Sub", draw.held(1.0), draw.op("Cast", draw.op("Unsqueeze", "mask", draw.whole(1, 2)), to=1))
    unseen = draw.op("Mul", unseen, draw.held(-1e9))

    def parted(x: str, perm: list[int]) -> str:
        into = draw.op("Concat", rows, length, draw.whole(heads), draw.whole(width // heads), axis=0)
        return draw.op("Transpose", draw.op("Reshape", draw.dense(x, width, width), into), perm=perm)

    def normal(x: str) -> str:
        away = draw.op("Sub", x, draw.op("ReduceMean", x, axes=[-1]))
        variance = draw.op("ReduceMean", draw.op("Pow", away, draw.held(2.0)), axes=[-1])
        x = draw.op("Div", away, draw.op("Sqrt", draw.op("Add", variance, draw.held(1e-5))))
        return draw.op("Add", draw.op("Mul", x, draw.spread(width)), draw.weight(width, scale=0.1))

    for layer in range(2):
        asked, keys, said = parted(x, [0, 2, 1, 3]), parted(x, [0, 2, 3, 1]), parted(x, [0, 2, 1, 3])
        scores = draw.op("Div", draw.op("MatMul", asked, keys), draw.held(float(np.sqrt(width / heads))))
        seen = draw.op("MatMul", draw.op("Softmax", draw.op("Add", scores, unseen)), said)
        whole = draw.op("Concat", rows, length, draw.whole(width), axis=0)
        seen = draw.dense(draw.op("Reshape", draw.op("Transpose", seen, perm=[0, 2, 1, 3]), whole), width, width)
        x = draw.op("Add", x, seen)
        x = normal(x) if layer else draw.op("LayerNormalization", x, draw.spread(width), draw.weight(width, scale=0.1))
        wide = draw.dense(x, width, 4 * width)
        bell = draw.op("Add", draw.op("Erf", draw.op("Div", wide, draw.held(float(np.sqrt(2))))), draw.held(1.0))
        x = normal(draw.op("Add", x, draw.dense(draw.op("Mul", wide, bell), 4 * width, width)))
    x = draw.op("Tanh", draw.dense(draw.op("Gather", x, draw.held(np.int64(0)), axis=1), width, width))
    x = draw.op("Sigmoid", draw.op("Gemm", x, draw.weight(width, 3), draw.weight(3, scale=0.1)))
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])
    given: list[Sized] = [("i:ids", ("N", "T")), ("i:mask", ("N", "T"))]
    return draw.model(given, x, ("N", 3)), {"ids": draw.rng.integers(0, 50, (3, 7)), "mask": mask}


def tied() -> tuple[Any, Rows]:
    """One table as the words that go in and the scores that come out, one layer used twice and its kernel once more, two norms that share
    their zeros, and bounds so large that they are no weights."""
    draw = Drawing()
    table, twice, bias, other = draw.weight(20, 8), draw.weight(8, 8), draw.weight(8, scale=0.1), draw.weight(8, scale=0.1)
    zeros, ones = draw.held(np.zeros(8, np.float32)), draw.held(np.ones(8, np.float32))
    x = draw.op("ReduceMean", draw.op("Gather", table, "ids"), axes=[1], keepdims=0)
    for added in (bias, bias, other):
        x = draw.op("Tanh", draw.op("Gemm", x, twice, added))
    x = draw.op("Min", x, draw.held(np.full(8, 1e9, np.float32)))
    for spread in (draw.spread(8), draw.spread(8)):
        x = draw.op("BatchNormalization", x, spread, zeros, zeros, ones)
    x = draw.op("MatMul", x, draw.op("Transpose", table, perm=[1, 0]))
    return draw.model([("i:ids", ("N", 4))], x, ("N", 20)), {"ids": draw.rng.integers(0, 20, (5, 4))}


GRAPHS: Mapping[str, Callable[[], tuple[Any, Rows]]] = {one.__name__: one for one in (cnn, keras, mobile, grouped, encoder, tied)}
