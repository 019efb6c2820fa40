"""Graphs whose students the tests look at: residuals with depthwise convolutions, an encoder of tokens, and what cannot be narrowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

FLOAT, INT64 = 1, 7


class Growing:
    """Nodes with weights, one after another; each call gives the name of what it makes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self._rng = np.random.default_rng(0)

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{name}_node", **attributes))
        return name

    def weight(self, name: str, *shape: int) -> str:
        self.weights[name] = self._rng.normal(0, 0.3, shape).astype(np.float32)
        return name

    def numbers(self, name: str, values: Sequence[int]) -> str:
        self.weights[name] = np.array(values, np.int64)
        return name

    def conv(self, name: str, taken: str, channels: int, made: int, *, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        weights = [self.weight(f"{name}.w", made, channels // group, kernel, kernel), self.weight(f"{name}.b", made)]
        return self.node("Conv", name, [taken, *weights], pads=[kernel // 2] * 4, strides=[stride] * 2, group=group)

    def finished(self, inputs: Sequence[tuple[str, int, list[Any]]], outputs: Sequence[tuple[str, int, list[Any]]]) -> onnx.ModelProto:
        values = [[helper.make_tensor_value_info(*one) for one in some] for some in (inputs, outputs)]
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "g", values[0], values[1], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def residual(blocks: int = 4) -> onnx.ModelProto:
    """image [N, 3, 16, 16] -> probabilities [N, 5]: inverted residuals with a batch norm, and a slope per channel."""
    g = Growing()
    last = g.node("Relu", "stem.relu", [g.conv("stem", "image", 3, 32, stride=2)])
    for place in range(blocks):
        name = f"block{place}"
        wide = g.node("Relu", f"{name}.relu", [g.conv(f"{name}.wide", last, 32, 64, kernel=1)])
        deep = g.conv(f"{name}.deep", wide, 64, 64, group=64)
        norm = [g.weight(f"{name}.{part}", 64) for part in ("scale", "shift", "mean")]
        g.weights[f"{name}.var"] = np.full(64, 0.5, np.float32)
        deep = g.node("BatchNormalization", f"{name}.norm", [deep, *norm, f"{name}.var"])
        g.weight(f"{name}.slope", 64, 1, 1)
        thin = g.conv(f"{name}.thin", g.node("PRelu", f"{name}.prelu", [deep, f"{name}.slope"]), 64, 32, kernel=1)
        last = g.node("Add", f"{name}.sum", [thin, last])
    g.numbers("flat", [-1, 32 * 8 * 8])
    flat = g.node("Reshape", "flattened", [last, "flat"])
    logits = g.node("Gemm", "logits", [flat, g.weight("head.w", 32 * 64, 5), g.weight("head.b", 5)])
    g.node("Softmax", "probabilities", [logits], axis=-1)
    return g.finished([("image", FLOAT, ["N", 3, 16, 16])], [("probabilities", FLOAT, ["N", 5])])


def encoder(vocabulary: int = 50, width: int = 32, heads: int = 4) -> onnx.ModelProto:
    """ids int64 [N, 8] -> logits [N, 3]: tokens with their places, one block of attention and a dense one, a mean."""
    g = Growing()
    each = width // heads
    last = g.node("Gather", "looked_up", [g.weight("table", vocabulary, width), "ids"])
    last = g.node("Add", "placed", [last, g.weight("places", 1, 8, width)])
    parts = []
    for part in "qkv":
        dense = g.node("MatMul", f"{part}.product", [last, g.weight(f"{part}.w", width, width)])
        dense = g.node("Add", f"{part}.biased", [dense, g.weight(f"{part}.b", width)])
        split = g.node("Reshape", f"{part}.split", [dense, g.numbers(f"{part}.shape", [0, 8, heads, each])])
        parts.append(g.node("Transpose", f"{part}.heads", [split], perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]))
    weights = g.node("Softmax", "attention", [g.node("MatMul", "scores", parts[:2])], axis=-1)
    mixed = g.node("Transpose", "merged", [g.node("MatMul", "mixed", [weights, parts[2]])], perm=[0, 2, 1, 3])
    mixed = g.node("Reshape", "joined", [mixed, g.numbers("joined.shape", [0, 8, width])])
    last = g.node("Add", "first.sum", [mixed, last])
    g.weights["norm.scale"], g.weights["norm.bias"] = np.ones(width, np.float32), np.zeros(width, np.float32)
    last = g.node("LayerNormalization", "norm", [last, "norm.scale", "norm.bias"], axis=-1)
    wide = g.node("Relu", "wide.relu", [g.node("MatMul", "wide", [last, g.weight("wide.w", width, 2 * width)])])
    last = g.node("Add", "second.sum", [g.node("MatMul", "thin", [wide, g.weight("thin.w", 2 * width, width)]), last])
    mean = g.node("ReduceMean", "mean", [last], axes=[1], keepdims=0)
    g.node("Gemm", "logits", [mean, g.weight("head.w", width, 3), g.weight("head.b", 3)])
    return g.finished([("ids", INT64, ["N", 8])], [("logits", FLOAT, ["N", 3])])


def remembering() -> onnx.ModelProto:
    """x [N, 6] -> y [N, 2] through an LSTM, whose weights are not narrowed."""
    g = Growing()
    dense = g.node("Gemm", "dense", ["x", g.weight("dense.w", 6, 16)])
    steps = g.node("Unsqueeze", "steps", [dense, g.numbers("axis", [0])])
    g.nodes.append(
        helper.make_node("LSTM", [steps, g.weight("w", 1, 32, 16), g.weight("r", 1, 32, 8)], ["", "last"], "lstm", hidden_size=8)
    )
    flat = g.node("Reshape", "flat", ["last", g.numbers("shape", [-1, 8])])
    g.node("Gemm", "y", [flat, g.weight("head.w", 8, 2)])
    return g.finished([("x", FLOAT, ["N", 6])], [("y", FLOAT, ["N", 2])])


def plain(shape: list[Any], classes: int = 4, *, dtype: int = FLOAT, rank: int = 2) -> onnx.ModelProto:
    """x of `shape` -> y [N, classes] or [N]: the means of the row, which say nothing. For what only its signature is needed."""
    g = Growing()
    last = g.node("Cast", "floats", ["x"], to=FLOAT)
    last = g.node("ReduceMean", "means", [last], axes=list(range(1, len(shape))), keepdims=0)
    if rank == 2:
        last = g.node("MatMul", "y", [g.node("Unsqueeze", "column", [last, g.numbers("axis", [1])]), g.weight("w", 1, classes)])
    else:
        g.node("Identity", "y", [last])
    return g.finished([("x", dtype, shape)], [("y", FLOAT, ["N", classes] if rank == 2 else ["N"])])
