"""A transformer's attention, norms and GELU become one operator each, with the same answers, and import takes what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from encoders import Size, encoder, sentences

from towline.convert.onnx import inspect_model
from towline.optimize.base import Material, PassFailed
from towline.optimize.fusion import Fuse
from towline.testing import tiny_models


def answers(model: Path, ids: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"ids": ids})[0])


def test_attention_norms_and_gelu_become_one_operator_each(tmp_path: Path):
    size = Size()
    onnx.save(encoder(size), tmp_path / "m.onnx")
    (tmp_path / "made").mkdir()

    passed = Fuse().run(tmp_path / "m.onnx", tmp_path / "made", Material())

    assert passed.notes == ("There are now 2 Attention, 2 BiasGelu, 4 SkipLayerNormalization.",)
    assert inspect_model(tmp_path / "made" / passed.model).operators["com.microsoft::Attention"] == 2
    ids, _ = sentences(20, size)
    np.testing.assert_allclose(answers(tmp_path / "made" / passed.model, ids), answers(tmp_path / "m.onnx", ids), atol=1e-4)


def test_a_graph_without_attention_is_refused_with_the_reason(tmp_path: Path):
    with pytest.raises(PassFailed, match="no attention, layer norm or GELU"):
        Fuse().run(tiny_models.write(tmp_path, tiny_models.mlp(), "m.onnx"), tmp_path, Material())
