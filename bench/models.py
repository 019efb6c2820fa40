"""The models every server of a run answers with: a tiny MLP and MobileNetV2, the same weights every time, and a row for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

MLP, CNN = "mlp", "cnn"
NAME = MLP
_SAMPLE_SEED = 7


@dataclass(frozen=True)
class Model:
    """An ONNX file: input "x" float32 [batch, *shape], output "y" float32 [batch, classes]; `row` is float32 [*shape], what every
    request holds, and `right` what ONNX Runtime itself says to it, float32 [classes]."""

    name: str
    path: Path
    shape: tuple[int, ...]
    classes: int
    row: npt.NDArray[np.float32]
    right: npt.NDArray[np.float32]


def write_mlp(folder: Path) -> Model:
    """10-64-10 with softmax: a few microseconds of work, so that everything else shows."""
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.3, shape).astype(np.float32) for shape in ((10, 64), (64,), (64, 10), (10,))]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    row = np.array([round(0.1 * place - 0.45, 2) for place in range(10)], np.float32)
    return save(folder, MLP, nodes, dict(zip(("w1", "b1", "w2", "b2"), weights, strict=True)), row, classes=10)


def save(
    folder: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    weights: dict[str, npt.NDArray[np.float32]],
    row: npt.NDArray[np.float32],
    *,
    classes: int,
) -> Model:
    """Write NAME.onnx and ask ONNX Runtime for the right answer."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *row.shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(array, weight) for weight, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    right = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["y"], {"x": row[None]})[0][0]
    return Model(name, path, row.shape, classes, row, right)
