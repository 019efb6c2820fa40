"""The model every server of a run answers with: an MLP 10-64-10 with softmax, the same weights every time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

NAME = "mlp"
ROW = [round(0.1 * place - 0.45, 2) for place in range(10)]


def write_mlp(folder: Path) -> Path:
    """Write mlp.onnx: input "x" float32 [batch, 10], output "y" float32 [batch, 10]."""
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.3, shape).astype(np.float32) for shape in ((10, 64), (64,), (64, 10), (10,))]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array, name) for array, name in zip(weights, ("w1", "b1", "w2", "b2"), strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{NAME}.onnx"
    onnx.save(model, path)
    return path


def write_body(folder: Path) -> Path:
    """The request every server gets: one row, about 80 bytes of JSON."""
    path = folder / "body.json"
    path.write_text(json.dumps({"instances": [ROW]}))
    return path


def right_answer(model: Path) -> list[float]:
    """What ONNX Runtime itself says to ROW; shape [10]."""
    return onnxruntime.InferenceSession(str(model)).run(["y"], {"x": np.array([ROW], np.float32)})[0][0].tolist()
