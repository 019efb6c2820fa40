"""A graph as a PyTorch module answers as ONNX Runtime does, before and after its weights changed, and keeps the names that it has."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from operator_graphs import every, with_all_outputs
from trainable_graphs import GRAPHS

from towline.testing import tiny_models

HERE = Path(__file__).parent
CLOSE = 1e-4
TIMEOUT_S = 300
# Before, while and after inputs took the place of attributes.
OPSETS = (9, 17, 21)

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def learnt(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What trainable_answers.py makes of every graph, in one process."""
    folder = tmp_path_factory.mktemp("graphs")
    for name, draw in GRAPHS.items():
        model, rows = draw()
        onnx.save(model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", **rows)
    for opset in OPSETS:
        model, rows = every(opset)
        onnx.save(model, folder / f"every{opset}.onnx")
        np.savez(folder / f"every{opset}.npz", **rows)
    (folder / "mlp.onnx").write_bytes(tiny_models.mlp())
    np.savez(folder / "mlp.npz", x=np.random.default_rng(1).normal(0, 1, (5, 10)).astype(np.float32))
    words = [environments / "torch/bin/python", HERE / "trainable_answers.py", folder]
    space = {"PYTHONPATH": str(HERE.parents[1] / "src"), "PATH": ""}
    ran = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=space)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


def asked(model: Path, rows: Path) -> np.ndarray:
    given = np.load(rows)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {one.name: given[one.name] for one in session.get_inputs()})[0])


@pytest.mark.parametrize("name", [*GRAPHS, "mlp"])
def test_a_module_answers_as_its_graph_does(learnt: Path, name: str):
    answers = np.load(learnt / name / "same" / "answers.npz")

    np.testing.assert_allclose(answers["y"], asked(learnt / f"{name}.onnx", learnt / f"{name}.npz"), rtol=CLOSE, atol=CLOSE)
    np.testing.assert_array_equal(answers["logits"], answers["inner logits"])


@pytest.mark.parametrize("opset", OPSETS)
def test_every_operator_computes_what_onnx_runtime_does(learnt: Path, opset: int):
    model, rows = every(opset)
    session = ort.InferenceSession(with_all_outputs(model).SerializeToString(), providers=["CPUExecutionProvider"])
    expected = dict(zip([one.name for one in session.get_outputs()], session.run(None, dict(rows)), strict=True))
    inner = np.load(learnt / f"every{opset}" / "inner.npz")

    assert len(inner.files) > 100
    wrong = [name for name in inner.files if not _alike(inner[name], expected[name])]
    assert wrong == []


def _alike(got: np.ndarray, expected: np.ndarray) -> bool:
    return got.shape == expected.shape and np.allclose(got, expected, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("name", [*GRAPHS, "mlp"])
def test_a_graph_written_back_untrained_gives_the_same_answers(learnt: Path, name: str):
    rows = learnt / f"{name}.npz"

    np.testing.assert_array_equal(asked(learnt / name / "same" / "model.onnx", rows), asked(learnt / f"{name}.onnx", rows))


@pytest.mark.parametrize("name", [*GRAPHS, "mlp"])
def test_a_graph_written_back_after_a_step_answers_as_the_trained_module(learnt: Path, name: str):
    rows, trained = learnt / f"{name}.npz", np.load(learnt / name / "stepped" / "answers.npz")["y"]

    np.testing.assert_allclose(asked(learnt / name / "stepped" / "model.onnx", rows), trained, rtol=CLOSE, atol=CLOSE)
    assert np.abs(trained - asked(learnt / f"{name}.onnx", rows)).max() > 10 * CLOSE


@pytest.mark.parametrize("name", [*GRAPHS, "mlp"])
def test_what_is_written_back_keeps_names_nodes_and_metadata(learnt: Path, name: str):
    before, after = onnx.load(learnt / f"{name}.onnx"), onnx.load(learnt / name / "stepped" / "model.onnx")

    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
    assert [node.output for node in after.graph.node] == [node.output for node in before.graph.node]
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert (after.metadata_props, after.opset_import, after.ir_version) == (before.metadata_props, before.opset_import, before.ir_version)
    onnx.checker.check_model(after, full_check=True)


def test_what_pytorch_has_a_layer_for_is_that_layer(learnt: Path):
    about = {name: json.loads((learnt / name / "about.json").read_text()) for name in (*GRAPHS, "mlp")}

    assert about["cnn"]["activation"] == "softmax"
    assert about["encoder"]["activation"] == "sigmoid"
    assert about["mobile"]["activation"] == ""
    assert about["cnn"]["layers"] == {
        "first": "Conv2d",
        "BatchNormalization_1": "AnyBatchNorm",
        "second": "Conv2d",
        "dense": "Linear",
        "last": "Linear",
    }
    assert sorted({*about["keras"]["layers"].values()}) == ["AnyBatchNorm", "Conv2d", "Linear"]
    assert sorted({*about["encoder"]["layers"].values()}) == ["Embedding", "LayerNorm", "Linear"]


def test_a_weight_used_twice_is_one_and_numbers_that_happen_to_be_equal_are_not(learnt: Path):
    about = json.loads((learnt / "tied" / "about.json").read_text())

    # The table and the kernel once each, and two biases; of each norm the scale and the bias.
    assert about["weights"] == 20 * 8 + (8 * 8 + 8 + 8) + 2 * (8 + 8)


def test_the_fixed_flatten_before_a_dense_layer_holds_for_any_width_once_written(learnt: Path):
    from onnx import numpy_helper

    graph = onnx.load(learnt / "cnn" / "same" / "model.onnx").graph
    (reshape,) = (node for node in graph.node if node.op_type == "Reshape")
    held = {one.name: numpy_helper.to_array(one).tolist() for one in graph.initializer}

    assert held[reshape.input[1]] == [0, -1]
