"""A graph that ONNX Runtime has optimised answers as before, passes inspection, and is not loaded where its layout does not fit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import convolutions
import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from towline.app.importing.model import import_model
from towline.convert.onnx import inspect_model
from towline.core.cpu import cpu_kind
from towline.core.engine import EngineOptions
from towline.core.errors import VersionError
from towline.engines.onnxruntime import OnnxRuntimeEngine
from towline.optimize.base import PassFailed
from towline.optimize.offline import LAYOUT_DOMAIN, Offline, offlines
from towline.optimize.process import Work, run_pass
from towline.testing import tiny_models

IMAGES = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
BASIC, EXTENDED, ALL = offlines(cpu_kind())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write(tmp_path_factory.mktemp("offline"), tiny_models.convolutions(), "m.onnx")


def answers(model: Path) -> np.ndarray:
    return ort.InferenceSession(str(model), providers=["CPUExecutionProvider"]).run(None, {"image": IMAGES})[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", [BASIC, EXTENDED, ALL], ids=["basic", "extended", "all"])
def test_the_answers_stay_and_what_is_read_of_it_is_what_it_needs(how: Offline, model: Path, tmp_path: Path) -> None:
    passed = run_pass(how, Work(model), tmp_path / "made")

    made = tmp_path / "made" / passed.model
    np.testing.assert_allclose(answers(made), answers(model), rtol=1e-5, atol=1e-6)
    inspected = inspect_model(made)
    assert set(inspected.opset) == {operator.rpartition("::")[0] or "ai.onnx" for operator in inspected.operators}
    assert how is not BASIC or set(inspected.opset) == {"ai.onnx"}
    assert how is ALL or not any(operator.startswith(LAYOUT_DOMAIN) for operator in inspected.operators)
    assert len(onnx.load(made).graph.node) < len(onnx.load(model).graph.node)
    assert "operators became" in passed.notes[0]


def test_transposes_around_each_convolution_go_and_those_at_the_ends_stay(tmp_path: Path) -> None:
    """As a graph comes out of a framework whose channels lie last, when nobody looks at it as a whole."""
    model = convolutions.write_channels_last(tmp_path / "m.onnx")
    assert kinds(model)["Transpose"] == 8

    passed = run_pass(BASIC, Work(model), tmp_path / "made")

    made = tmp_path / "made" / passed.model
    assert kinds(made)["Transpose"] == 2
    assert kinds(made)["Conv"] == 4
    assert "Transposes: 8 became 2." in passed.notes
    rows = {"x": convolutions.PICTURES.transpose(0, 2, 3, 1)}
    first, second = (ort.InferenceSession(str(one), providers=["CPUExecutionProvider"]).run(None, rows)[0] for one in (model, made))
    np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-5)


def kinds(model: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(model).graph.node)


def test_a_layout_for_another_cpu_is_not_made_here(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PassFailed, match="asked for was Abacus-1"):
        run_pass(Offline("all", "Abacus-1"), Work(model), tmp_path / "made")


def test_a_torn_graph_is_a_failure_of_the_pass(tmp_path: Path) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x0atorn")

    with pytest.raises(PassFailed):
        run_pass(EXTENDED, Work(tmp_path / "torn.onnx"), tmp_path / "made")


def test_a_version_laid_out_for_another_cpu_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    made = tmp_path / "made" / run_pass(ALL, Work(model), tmp_path / "made").model
    version = import_model(made, name="laid-out", home=tmp_path / "home").version
    elsewhere = msgspec.structs.replace(version.manifest, measured=msgspec.structs.replace(version.manifest.measured, cpu="Abacus-1"))
    is_laid_out = any(operator.startswith(LAYOUT_DOMAIN) for operator in version.manifest.facts.operators)

    if is_laid_out:
        with pytest.raises(VersionError, match="laid out for Abacus-1") as refused:
            OnnxRuntimeEngine().load(version.path, elsewhere, EngineOptions())
        assert refused.value.code == "OTHER_CPU"
    # A CPU without a layout of its own ties nothing to itself; and what is a draft was made here.
    for manifest in (version.manifest, msgspec.structs.replace(elsewhere, golden=()), *(() if is_laid_out else (elsewhere,))):
        OnnxRuntimeEngine().load(version.path, manifest, EngineOptions())
