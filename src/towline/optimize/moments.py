"""What the products of a graph read: second moments and means of their inputs over the rows of calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from towline.optimize.base import Arrays
from towline.optimize.channels import attribute

# Of positions of a convolution per batch: what is read at more of them says nothing new, and takes time.
POSITIONS = 1024
# A matrix of as many squared is as much as is worth inverting.
MOST_INPUTS = 2304


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul with weights of its own: float64 [groups, outputs, inputs], whatever layout the graph has. `kernel` is
    (height, width) of a Conv."""

    node: Any
    weights: np.ndarray
    kernel: tuple[int, ...] = ()

    @property
    def groups(self) -> int:
        return len(self.weights)

    def stored(self, weights: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Weights [groups, outputs, inputs] in the graph's layout."""
        flat = weights.reshape(-1, weights.shape[-1])
        return (flat.T if _by_input(self.node) else flat).reshape(like.shape).astype(like.dtype)

    def read(self, given: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """What the product reads at some positions of its input: float32 [positions, groups, inputs]."""
        if self.node.op_type != "Conv":
            rows = given.reshape(-1, 1, given.shape[-1])
            return rows[random.choice(len(rows), min(len(rows), POSITIONS), replace=False)]
        top, left, bottom, right = attribute(self.node, "pads", [0, 0, 0, 0])
        down, across = attribute(self.node, "strides", [1, 1])
        tall, wide = attribute(self.node, "dilations", [1, 1])
        height, width = self.kernel
        padded = np.pad(given, ((0, 0), (0, 0), (top, bottom), (left, right)))
        window = ((height - 1) * tall + 1, (width - 1) * wide + 1)
        seen = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(2, 3))[:, :, ::down, ::across, ::tall, ::wide]
        places = random.choice(seen.shape[0] * seen.shape[2] * seen.shape[3], min(POSITIONS, seen[:, 0, ..., 0, 0].size), replace=False)
        row, y, x = np.unravel_index(places, (seen.shape[0], seen.shape[2], seen.shape[3]))
        return np.ascontiguousarray(seen[row, :, y, x]).reshape(len(places), self.groups, -1)


@dataclass
class Moments:
    """Over positions: `square` is the mean of x xᵀ, float64 [groups, inputs, inputs]; `mean` of x, float64 [groups, inputs]."""

    square: np.ndarray
    mean: np.ndarray


def layers(graph: Any, weights: Mapping[str, np.ndarray]) -> dict[str, Layer]:
    """The products of an onnx.GraphProto whose weights are constants, theirs alone, by name of the operator. Pure."""
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    found = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and uses.get(node.input[1]) == 1 and _is_plain(node, weights):
            weight = weights[node.input[1]].astype(np.float64)
            flat = weight.T if _by_input(node) else weight.reshape(len(weight), -1)
            if flat.shape[1] <= MOST_INPUTS:
                groups = attribute(node, "group", 1)
                found[node.name] = Layer(node, flat.reshape(groups, -1, flat.shape[1]), weight.shape[2:])
    return found


def moments(model: Path, among: Mapping[str, Layer], batches: Sequence[Arrays], *, seed: int) -> dict[str, Moments]:
    """What each layer reads, by name of the operator, from one run of the graph over the batches."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    whole = onnx.load(model)
    wanted = dict.fromkeys(layer.node.input[0] for layer in among.values())
    known = {one.name for one in (*whole.graph.output, *whole.graph.input)}
    whole.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted if name not in known)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inner = [name for name in wanted if name not in {one.name for one in whole.graph.input}]
    random = np.random.default_rng(seed)
    sums: dict[str, list[Any]] = {}
    for batch in batches:
        seen = dict(batch) | dict(zip(inner, session.run(inner, dict(batch)), strict=True))
        for name, layer in among.items():
            read = layer.read(seen[layer.node.input[0]], random).transpose(1, 0, 2)
            one = [read.transpose(0, 2, 1) @ read, read.sum(axis=1, dtype=np.float64), read.shape[1]]
            sums[name] = [before + new for before, new in zip(sums[name], one, strict=True)] if name in sums else one
    return {name: Moments(square.astype(np.float64) / count, mean / count) for name, (square, mean, count) in sums.items()}


def _is_plain(node: Any, weights: Mapping[str, np.ndarray]) -> bool:
    if any(name not in weights for name in node.input[1:]):
        return False
    if node.op_type == "Conv":
        return bool(weights[node.input[1]].ndim == 4 and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET")
    if node.op_type == "Gemm":
        return (attribute(node, "transA", 0), attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) == (0, 1.0, 1.0)
    return weights[node.input[1]].ndim == 2


def _by_input(node: Any) -> bool:
    """Whether the first axis of the graph's weights is that of the inputs."""
    return bool(node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)))
