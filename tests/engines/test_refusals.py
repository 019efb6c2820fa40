"""What ONNX Runtime refuses is told apart: an input that does not fit the graph is the caller's, memory is the machine's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from towline.core.engine import EngineOptions
from towline.core.errors import EngineError, Kind
from towline.core.manifest import Facts, Manifest, Measured, Origin
from towline.engines.onnxruntime import OnnxRuntimeEngine, OnnxRuntimeSession
from towline.testing import tiny_models


def load(folder: Path, model: bytes) -> OnnxRuntimeSession:
    tiny_models.write(folder, model)
    engine = OnnxRuntimeEngine()
    signatures = {"serving_default": engine.describe(folder, "model.onnx")}
    manifest = Manifest(
        1, "onnxruntime", "model.onnx", signatures, False, Origin("onnx", ""), Facts(0, {}, {}), Measured("", True, 0, 0, 1)
    )
    return engine.load(folder, manifest, EngineOptions())


def reshape() -> bytes:
    """x float32 [N] and shape int64 [2] -> y."""
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["A", "B"])
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "reshape", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", tiny_models.OPSET)], ir_version=tiny_models.IR_VERSION)
    return bytes(model.SerializeToString())


def test_a_shape_that_does_not_fit_is_the_callers_and_no_lack_of_memory(tmp_path: Path) -> None:
    session = load(tmp_path, reshape())
    with pytest.raises(EngineError) as refused:
        session.run({"x": np.zeros(5, np.float32), "shape": np.array([2, 2])})

    assert (refused.value.kind, refused.value.code) == (Kind.INVALID, "ENGINE_REFUSED")


def test_more_memory_than_there_is_is_no_fault_of_the_shape(tmp_path: Path) -> None:
    session = load(tmp_path, tiny_models.memory_bomb())
    with pytest.raises(EngineError) as refused:
        session.run({"shape": np.array([2**40, 2**10])})

    assert (refused.value.kind, refused.value.code) == (Kind.OUT_OF_MEMORY, "OUT_OF_MEMORY")
