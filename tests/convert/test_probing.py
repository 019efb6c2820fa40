"""A graph is looked into by a process of its own: its inner tensors become outputs, its weights come along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from towline.convert.probing import WEIGHTS_NAME, with_outputs
from towline.core.errors import ImportRefused
from towline.core.frames import decode_frame
from towline.testing import tiny_models


def test_inner_tensors_become_outputs_and_weights_and_nodes_are_told(tmp_path: Path):
    model = tiny_models.write(tmp_path, tiny_models.convolutions(epsilon=1e-3))

    probe = with_outputs(model, (), tmp_path / "probe.onnx")

    assert [spec.name for spec in probe.tensors] == ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "mean"]
    assert probe.tensors[0].shape == ("N", 8, 8, 8)
    assert [node.epsilon for node in probe.nodes if node.kind == "BatchNormalization"] == pytest.approx([1e-3, 1e-3])
    session = onnxruntime.InferenceSession(tmp_path / "probe.onnx", providers=["CPUExecutionProvider"])
    image = np.ones((1, 3, 8, 8), np.float32)
    answers = dict(zip([one.name for one in session.get_outputs()], session.run(None, {"image": image}), strict=True))
    assert np.array_equal(answers["relu1"], np.maximum(answers["bn1"], 0))
    weights = decode_frame((tmp_path / WEIGHTS_NAME).read_bytes())
    assert weights["dense.weight"].shape == (8, 4)


def test_only_tensors_that_are_asked_for_and_there_become_outputs(tmp_path: Path):
    graph = onnx.load_model_from_string(tiny_models.convolutions())
    graph.graph.value_info.append(graph.graph.output[0])
    model = tiny_models.write(tmp_path, graph.SerializeToString())

    probe = with_outputs(model, ("bn2", "nowhere", "y"), tmp_path / "probe.onnx")

    assert [spec.name for spec in probe.tensors] == ["bn2"]


def test_what_is_no_graph_is_refused_in_one_line_without_a_path(tmp_path: Path):
    model = tiny_models.write(tmp_path, b"\x08\x08no graph at all")

    with pytest.raises(ImportRefused, match="The graph cannot be looked into") as refusal:
        with_outputs(model, (), tmp_path / "probe.onnx")
    assert refusal.value.code == "PROBE_FAILED"
    assert str(tmp_path) not in refusal.value.message


def test_a_graph_that_takes_forever_is_given_up(tmp_path: Path):
    model = tiny_models.write(tmp_path, tiny_models.convolutions())

    with pytest.raises(ImportRefused, match="cannot be looked into"):
        with_outputs(model, (), tmp_path / "probe.onnx", timeout_s=0)
