"""A transformer text encoder whose classes mean something: its layers are drawn, its last one is fitted to sentences of eight kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

CLASSES = 8


@dataclass(frozen=True)
class Size:
    layers: int = 2
    width: int = 32
    heads: int = 2
    length: int = 12
    vocabulary: int = 200


class _Drawing:
    def __init__(self, size: Size) -> None:
        self.size = size
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}

    def held(self, name: str, value: Any) -> str:
        array = np.asarray(value)
        self.weights[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def dense(self, x: str, name: str, before: int, after: int) -> str:
        weight = self.held(f"{name}.weight", self.rng.normal(size=(before, after)) / np.sqrt(before))
        product = self.op("MatMul", [x, weight], f"{name}.product")
        return self.op("Add", [product, self.held(f"{name}.bias", 0.02 * self.rng.normal(size=after))], name)

    def norm(self, x: str, name: str) -> str:
        scale = self.held(f"{name}.scale", 1 + 0.1 * self.rng.normal(size=self.size.width))
        return self.op("LayerNormalization", [x, scale, self.held(f"{name}.bias", np.zeros(self.size.width))], name, axis=-1)

    def gelu(self, x: str, name: str) -> str:
        erf = self.op("Erf", [self.op("Div", [x, "root of two"], f"{name}.scaled")], f"{name}.erf")
        return self.op("Mul", [self.op("Mul", [x, self.op("Add", [erf, "one"], f"{name}.more")], f"{name}.twice"), "half"], name)

    def attention(self, x: str, name: str) -> str:
        width = self.size.width

        def parted(letter: str, perm: tuple[int, ...]) -> str:
            parts = self.op("Reshape", [self.dense(x, f"{name}.{letter}", width, width), "in heads"], f"{name}.{letter}.parts")
            return self.op("Transpose", [parts], f"{name}.{letter}.heads", perm=perm)

        scores = self.op("MatMul", [parted("q", (0, 2, 1, 3)), parted("k", (0, 2, 3, 1))], f"{name}.products")
        shares = self.op("Softmax", [self.op("Div", [scores, "root of head"], f"{name}.scores")], f"{name}.shares", axis=-1)
        seen = self.op("MatMul", [shares, parted("v", (0, 2, 1, 3))], f"{name}.seen")
        joined = self.op("Reshape", [self.op("Transpose", [seen], f"{name}.turned", perm=(0, 2, 1, 3)), "in one"], f"{name}.joined")
        return self.dense(joined, f"{name}.out", width, width)

    def layer(self, x: str, name: str) -> str:
        width = self.size.width
        x = self.norm(self.op("Add", [self.attention(x, name), x], f"{name}.first"), f"{name}.norm1")
        wide = self.gelu(self.dense(x, f"{name}.wide", width, 4 * width), f"{name}.gelu")
        return self.norm(self.op("Add", [self.dense(wide, f"{name}.narrow", 4 * width, width), x], f"{name}.second"), f"{name}.norm2")


def encoder(size: Size, last: np.ndarray | None = None) -> onnx.ModelProto:
    """ids int64 [N, length] -> probabilities [N, 8] with `last` [width + 1, 8], the weights and biases of the last layer; else the mean."""
    drawn = _Drawing(size)
    head = size.width // size.heads
    for name, value in (("half", 0.5), ("one", 1.0), ("root of two", np.sqrt(2)), ("root of head", np.sqrt(head))):
        drawn.held(name, value)
    drawn.held("in heads", np.array([0, 0, size.heads, head]))
    drawn.held("in one", np.array([0, 0, size.width]))
    x = drawn.op("Gather", [drawn.held("table", drawn.rng.normal(size=(size.vocabulary, size.width))), "ids"], "words")
    x = drawn.op("Add", [x, drawn.held("places", 0.3 * drawn.rng.normal(size=(1, size.length, size.width)))], "placed")
    for place in range(size.layers):
        x = drawn.layer(x, f"layer{place}")
    answer = drawn.op("ReduceMean", [x, drawn.held("middle", np.array([1]))], "mean", keepdims=0)
    if last is not None:
        held = [drawn.held("last.weight", last[:-1]), drawn.held("last.bias", last[-1])]
        answer = drawn.op("Softmax", [drawn.op("Gemm", [answer, *held], "logits")], "probabilities", axis=-1)
    graph = helper.make_graph(
        drawn.nodes,
        "encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", size.length])],
        [helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["N", CLASSES if last is not None else size.width])],
        [numpy_helper.from_array(value, name) for name, value in drawn.weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def sentences(count: int, size: Size, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Word ids of sentences, and of which of eight kinds each is: kinds have words that they use more often."""
    rng = np.random.default_rng(9)
    favourites = rng.dirichlet(np.full(size.vocabulary, 0.05), CLASSES)
    common = rng.dirichlet(np.ones(size.vocabulary))
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, CLASSES, count)
    ids = np.stack([rng.choice(size.vocabulary, size.length, p=0.6 * favourites[kind] + 0.4 * common) for kind in kinds])
    return ids.astype(np.int64), kinds.astype(np.int64)


def trained(size: Size, ids: np.ndarray, kinds: np.ndarray) -> onnx.ModelProto:
    """The encoder with its last layer fitted to these sentences, by least squares."""
    session = ort.InferenceSession(encoder(size).SerializeToString(), providers=["CPUExecutionProvider"])
    means = np.concatenate([session.run(None, {"ids": ids[at : at + 50]})[0] for at in range(0, len(ids), 50)])
    x = np.c_[means, np.ones(len(means))].astype(np.float64)
    last = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ np.eye(CLASSES)[kinds])
    return encoder(size, 10 * last)
