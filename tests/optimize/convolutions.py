"""A small network like MobileNet: a convolution, a depthwise one and a residual, with channels of very different reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 8
SHAPE = (3, 12, 12)
PICTURES = np.random.default_rng(1).normal(size=(32, *SHAPE)).astype(np.float32)


def write(path: Path, *, top: float = 6.0) -> Path:
    """x float32 [N, 3, 12, 12] -> y [N, 5]: first (Conv, Clip), depth (depthwise, Clip), narrow (1x1), again (1x1) added to it, logits."""
    random = np.random.default_rng(0)
    reach = np.geomspace(1, 50, CHANNELS)
    weights = {
        # A channel reaches a fiftieth of another, and what reads it makes up for that: what eight bits per tensor lose.
        "w1": random.normal(size=(CHANNELS, 3, 3, 3)) * 0.2 * reach.reshape(-1, 1, 1, 1) / 50,
        "b1": random.normal(size=CHANNELS) * 0.05 * reach / 50,
        "w2": random.normal(size=(CHANNELS, 1, 3, 3)) * 30 / reach.reshape(-1, 1, 1, 1),
        "b2": random.normal(size=CHANNELS) * 0.1,
        "w3": random.normal(size=(CHANNELS, CHANNELS, 1, 1)),
        "b3": random.normal(size=CHANNELS) * 0.1,
        "w4": random.normal(size=(CHANNELS, CHANNELS, 1, 1)) * 0.3,
        "w5": random.normal(size=(CHANNELS, 5)),
        "b5": random.normal(size=5) * 0.1,
        "zero": np.array(0.0),
        "top": np.array(top),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c1", "zero", "top"], ["a1"], "clip1"),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["c2"], "depth", group=CHANNELS, pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c2", "zero", "top"], ["a2"], "clip2"),
        helper.make_node("Conv", ["a2", "w3", "b3"], ["c3"], "narrow"),
        helper.make_node("Conv", ["c3", "w4"], ["c4"], "again"),
        helper.make_node("Add", ["c3", "c4"], ["sum"], "residual"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], "pool"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w5", "b5"], ["y"], "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_channels_last(path: Path) -> Path:
    """x float32 [N, 12, 12, 3] -> y [N, 5]: four convolutions, one depthwise, each between two Transposes; a sum and a bias in between."""
    random = np.random.default_rng(0)
    held, nodes = [], []

    def hold(name: str, *shape: int) -> str:
        held.append(numpy_helper.from_array((0.3 * random.normal(size=shape)).astype(np.float32), name))
        return name

    def turned(x: str, name: str, outputs: int, inputs: int, *, group: int = 1) -> str:
        weight = hold(f"{name}.w", outputs, inputs // group, 3, 3)
        nodes.append(helper.make_node("Transpose", [x], [f"{name}.in"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Conv", [f"{name}.in", weight], [f"{name}.out"], name, pads=[1, 1, 1, 1], group=group))
        nodes.append(helper.make_node("Transpose", [f"{name}.out"], [f"{name}.last"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Add", [f"{name}.last", hold(f"{name}.b", outputs)], [f"{name}.sum"]))
        nodes.append(helper.make_node("Relu", [f"{name}.sum"], [name]))
        return name

    first = turned("x", "first", CHANNELS, 3)
    again = turned(turned(first, "depth", CHANNELS, CHANNELS, group=CHANNELS), "narrow", CHANNELS, CHANNELS)
    nodes.append(helper.make_node("Add", [first, again], ["residual"]))
    last = turned("residual", "last", CHANNELS, CHANNELS)
    nodes.append(helper.make_node("ReduceMean", [last], ["mean"], axes=[1, 2], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["mean", hold("logits.w", CHANNELS, 5)], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", ["N", 12, 12, 3]), ("y", ["N", 5]))]
    graph = helper.make_graph(nodes, "channels last", ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
