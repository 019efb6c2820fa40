"""Tiny ONNX models of sequences for tests: each as bytes, each right or wrong about what stands behind a sequence. Imports onnx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from towline.testing.tiny_models import make_model, node

Spec = tuple[str, str, Sequence[int | str]]


def encoder(
    *,
    mask: Literal["", "attention_mask", "padding_mask"] = "attention_mask",
    pooled: bool = False,
    vocabulary: int = 64,
    width: int = 8,
    layers: int = 1,
    positions: int = 0,
    known: range | None = None,
    closing: float = -10_000.0,
    seed: int = 0,
) -> bytes:
    """input_ids int64 [N, T] and a mask [N, T] -> vectors float32 [N, T, width], or `pooled` over the tokens, [N, width].

    mask: 1 marks a token in `attention_mask` (int64) and none in `padding_mask` (bool); without one, every token is attended to.
    positions: tokens that it knows a place for, more are refused; 0 has none. known: the tokens that have a vector, others are all zero.
    closing: what the mask adds to the score of what is no token; too little lets some of it through.
    """
    rng = np.random.default_rng(seed)
    table = rng.normal(0, 1, (vocabulary, width)).astype(np.float32)
    if known is not None:
        table[[token for token in range(vocabulary) if token not in known]] = 0
    weights: dict[str, np.ndarray] = {"table": table, "scale": np.array(width**-0.5, np.float32)}
    nodes: list[Any] = [node("Gather", ["table", "input_ids"], ["h0"])]
    inputs: list[Spec] = [("input_ids", "int64", ("N", "T"))]
    if positions:
        weights |= {"places": rng.normal(0, 1, (positions, width)).astype(np.float32), "zero": np.array(0), "one": np.array(1)}
        nodes += [
            node("Shape", ["input_ids"], ["shape"]),
            node("Gather", ["shape", "one"], ["length"]),
            node("Range", ["zero", "length", "one"], ["place"]),
            node("Gather", ["places", "place"], ["placed"]),
            node("Add", ["h0", "placed"], ["h0p"]),
        ]
    if mask:
        inputs.append((mask, "int64" if mask == "attention_mask" else "bool", ("N", "T")))
        nodes += _closing(mask, closing, weights)
    last = "h0p" if positions else "h0"
    for layer in range(layers):
        nodes += _layer(last, layer, width, weights, rng, masked=bool(mask))
        last = f"h{layer + 1}"
    shape: Sequence[int | str] = ("N", "T", width)
    if pooled:
        nodes += _pooling(last, bool(mask), weights)
        last, shape = "mean", ("N", width)
    nodes.append(node("Identity", [last], ["vectors"]))
    return make_model(nodes, inputs, [("vectors", "float32", shape)], weights)


def recurrent(
    *, direction: Literal["forward", "bidirectional"] = "forward", state: bool = False, biased: bool = True, width: int = 4, seed: int = 0
) -> bytes:
    """x float32 [N, T, 3] -> y float32 [N, T, width] (twice that, bidirectional) of a GRU; with `state` its last state, [N, width].

    One that is not `biased` stays at 0 while it reads 0: it may be padded from either side.
    """
    rng = np.random.default_rng(seed)
    ways = 2 if direction == "bidirectional" else 1
    weights: dict[str, np.ndarray] = {
        "w": rng.normal(0, 1, (ways, 3 * width, 3)).astype(np.float32),
        "r": rng.normal(0, 1, (ways, 3 * width, width)).astype(np.float32),
        "b": rng.normal(0, float(biased), (ways, 6 * width)).astype(np.float32),
    }
    nodes = [
        node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        node("GRU", ["steps", "w", "r", "b"], ["hidden", "last"], hidden_size=width, direction=direction),
    ]
    if state:
        weights["first"] = np.array(0, np.int64)
        nodes.append(node("Gather", ["last", "first"], ["y"], axis=0))
        return make_model(nodes, [("x", "float32", ("N", "T", 3))], [("y", "float32", ("N", width))], weights)
    weights["flat"] = np.array([0, 0, -1], np.int64)
    nodes += [node("Transpose", ["hidden"], ["rows"], perm=[2, 0, 1, 3]), node("Reshape", ["rows", "flat"], ["y"])]
    return make_model(nodes, [("x", "float32", ("N", "T", 3))], [("y", "float32", ("N", "T", ways * width))], weights)


def pooled_vectors(*, how: str = "ReduceMean", known: range | None = None, vocabulary: int = 64, width: int = 4, seed: int = 0) -> bytes:
    """input_ids int64 [N, T] -> y float32 [N, width]: the vectors of all tokens taken together by `how`. `known` as of `encoder`."""
    table = np.random.default_rng(seed).normal(0, 1, (vocabulary, width)).astype(np.float32)
    if known is not None:
        table[[token for token in range(vocabulary) if token not in known]] = 0
    weights: dict[str, np.ndarray] = {"table": table, "axis": np.array([1], np.int64)}
    taken = node(how, ["v", "axis"], ["y"], keepdims=0) if how == "ReduceSum" else node(how, ["v"], ["y"], axes=[1], keepdims=0)
    nodes = [node("Gather", ["table", "input_ids"], ["v"]), taken]
    return make_model(nodes, [("input_ids", "int64", ("N", "T"))], [("y", "float32", ("N", width))], weights)


def windows() -> bytes:
    """x float32 [N, T] -> y float32 [N, T - 2]: the mean of every three neighbours, as a convolution without borders gives it."""
    weights: dict[str, np.ndarray] = {"kernel": np.full((1, 1, 3), 1 / 3, np.float32), "one": np.array([1], np.int64)}
    nodes = [
        node("Unsqueeze", ["x", "one"], ["channels"]),
        node("Conv", ["channels", "kernel"], ["means"]),
        node("Squeeze", ["means", "one"], ["y"]),
    ]
    return make_model(nodes, [("x", "float32", ("N", "T"))], [("y", "float32", ("N", "S"))], weights)


def squares(*, shape: Sequence[int | str] = ("N", "T")) -> bytes:
    """x float32 -> y = x * x of the same shape: each element for itself."""
    return make_model([node("Mul", ["x", "x"], ["y"])], [("x", "float32", shape)], [("y", "float32", shape)])


def _closing(mask: str, by: float, weights: dict[str, np.ndarray]) -> list[Any]:
    """Nodes that make `closed` [N, 1, T], which is added to the scores, and `open` [N, T, 1], 1 for each token."""
    weights |= {"lowest": np.array(by, np.float32), "whole": np.array(1, np.float32)}
    weights |= {"middle": np.array([1], np.int64), "end": np.array([2], np.int64)}
    given = node("Cast", [mask], ["given"], to=1)
    shut = [given, node("Identity", ["given"], ["shut"])] if mask == "padding_mask" else [given, node("Sub", ["whole", "given"], ["shut"])]
    return [
        *shut,
        node("Sub", ["whole", "shut"], ["kept"]),
        node("Unsqueeze", ["kept", "end"], ["open"]),
        node("Unsqueeze", ["shut", "middle"], ["shut3"]),
        node("Mul", ["shut3", "lowest"], ["closed"]),
    ]


def _layer(taken: str, layer: int, width: int, weights: dict[str, np.ndarray], rng: np.random.Generator, *, masked: bool) -> list[Any]:
    """Attention with a sum around it, and a step of its own for each token."""
    for name in ("q", "k", "v", "f"):
        weights[f"w{name}{layer}"] = rng.normal(0, width**-0.5, (width, width)).astype(np.float32)
    at = f"_{layer}"
    score = [node("Add", [f"raw{at}", "closed"], [f"score{at}"])] if masked else [node("Identity", [f"raw{at}"], [f"score{at}"])]
    return [
        *(node("MatMul", [taken, f"w{name}{layer}"], [f"{name}{at}"]) for name in ("q", "k", "v")),
        node("Transpose", [f"k{at}"], [f"kt{at}"], perm=[0, 2, 1]),
        node("MatMul", [f"q{at}", f"kt{at}"], [f"large{at}"]),
        node("Mul", [f"large{at}", "scale"], [f"raw{at}"]),
        *score,
        node("Softmax", [f"score{at}"], [f"share{at}"], axis=-1),
        node("MatMul", [f"share{at}", f"v{at}"], [f"seen{at}"]),
        node("Add", [taken, f"seen{at}"], [f"sum{at}"]),
        node("MatMul", [f"sum{at}", f"wf{layer}"], [f"flat{at}"]),
        node("Tanh", [f"flat{at}"], [f"h{layer + 1}"]),
    ]


def _pooling(taken: str, masked: bool, weights: dict[str, np.ndarray]) -> list[Any]:
    if not masked:
        return [node("ReduceMean", [taken], ["mean"], axes=[1], keepdims=0)]
    weights["along"] = np.array([1], np.int64)
    return [
        node("Mul", [taken, "open"], ["counted"]),
        node("ReduceSum", ["counted", "along"], ["total"], keepdims=0),
        node("ReduceSum", ["open", "along"], ["tokens"], keepdims=0),
        node("Div", ["total", "tokens"], ["mean"]),
    ]
