"""What TensorFlow and Keras leave behind is read, answered and converted under its own names; what would harm is refused by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

pytestmark = pytest.mark.frameworks

HERE = Path(__file__).parent
KERAS2 = HERE / "keras2"
# name: file beneath the written folder, what convert/recognise.py calls it, options
GOOD = {
    "keras": ("model.keras", "keras", {}),
    "h5": ("model.h5", "keras_h5", {}),
    "structured": ("structured.keras", "keras", {}),
    "pictures": ("pictures.keras", "keras", {}),
    "vouched": ("hostile/lambda.keras", "keras", {}),
    "weights": ("only.weights.h5", "keras_h5", {"arch": "arch.py:build"}),
    "exported": ("exported", "saved_model", {}),
    "two": ("two", "saved_model", {}),
    "learning": ("learning", "saved_model", {}),
    "text": ("text", "saved_model", {}),
    "svd": ("svd", "saved_model", {}),
    "session": ("session", "saved_model", {}),
    "frozen": ("frozen.pb", "frozen_graph", {}),
    "cut": ("frozen.pb", "frozen_graph", {"outputs": "Identity"}),
    "tf1": ("tf1/model.ckpt", "tf1_checkpoint", {}),
    "logits": ("tf1/model.ckpt", "tf1_checkpoint", {"outputs": "MatMul_1"}),
    "tf2": ("tf2/model.ckpt", "tf2_checkpoint", {"arch": "arch.py:build(width=4)"}),
    "keras2_pruned": (KERAS2 / "pruned.h5", "keras_h5", {}),
    "keras2_quantised": (KERAS2 / "quantised.h5", "keras_h5", {}),
    "keras2_h5": (KERAS2 / "plain.h5", "keras_h5", {}),
    "keras2_keras": (KERAS2 / "plain.keras", "keras", {}),
    "keras2_checkpoint": (KERAS2 / "checkpoint" / "model.ckpt", "tf2_checkpoint", {"arch": "arch.py:build_keras2"}),
}
OPERATIONS = ("ReadFile", "WriteFile", "MatchingFiles", "PrintV2", "SaveV2", "RestoreV2", "WholeFileReaderV2", "EagerPyFunc")
# name: file, kind, options, code of the refusal, and what its message names
BAD: dict[str, tuple[str, str, dict[str, str], str, str]] = {
    **{op: (f"hostile/{op}", "saved_model", {}, "OPERATION_NOT_ALLOWED", f"'{op}'") for op in OPERATIONS},
    "orphan": ("hostile/orphan", "saved_model", {}, "OPERATION_NOT_ALLOWED", "'WriteFile'"),
    "asset": ("hostile/asset", "saved_model", {}, "ASSET_OUTSIDE", "'../../../canary'"),
    "lambda_keras": ("hostile/lambda.keras", "keras", {}, "RUNS_CODE", "'evil' is a 'Lambda'"),
    "lambda_h5": ("hostile/lambda.h5", "keras_h5", {}, "RUNS_CODE", "'evil' is a 'Lambda'"),
    "linked": ("hostile/linked.h5", "keras_h5", {}, "EXTERNAL_DATA_LINK", "'probs' is a link"),
    "more": ("hostile/more.keras", "keras", {}, "ARCHIVE_ENTRY", "'../canary'"),
    "torn": ("hostile/torn", "saved_model", {}, "TORN_FILE", "cannot load"),
    "torn_keras": ("hostile/torn-model.keras", "keras", {}, "TORN_FILE", "damaged"),
    "torn_h5": ("hostile/torn-model.h5", "keras_h5", {}, "TORN_FILE", "damaged"),
    "torn_frozen": ("hostile/torn-frozen.pb", "frozen_graph", {}, "TORN_FILE", "no valid protobuf"),
    "weights_only": ("only.weights.h5", "keras_h5", {}, "WEIGHTS_ONLY", "weights only"),
    "tf2_without_code": ("tf2/model.ckpt", "tf2_checkpoint", {}, "WEIGHTS_ONLY", "weights only"),
    "other_code": ("tf2/model.ckpt", "tf2_checkpoint", {"arch": "arch.py:build_keras2"}, "MISSING_WEIGHTS", "every variable"),
    "other_width": ("only.weights.h5", "keras_h5", {"arch": "arch.py:build(width=9)"}, "WEIGHTS_DO_NOT_FIT", "do not fit"),
    "no_such_function": ("tf2/model.ckpt", "tf2_checkpoint", {"arch": "arch.py:nothing"}, "BAD_ARCHITECTURE", "'nothing'"),
    "unbuilt": ("tf2/model.ckpt", "tf2_checkpoint", {"arch": "arch.py:Unbuilt"}, "NOT_BUILT", "shape of its input"),
    "tags": ("two", "saved_model", {"tags": "train"}, "NO_SUCH_TAGS", "there is: serve"),
    "no_such_node": ("frozen.pb", "frozen_graph", {"outputs": "nowhere"}, "NO_SUCH_NODE", "'nowhere'"),
    "unknown_option": ("two", "saved_model", {"opset": "9"}, "UNKNOWN_OPTION", "'opset'"),
    "remembering": ("remembering", "saved_model", {}, "STATEFUL_MODEL", "'serving_default' changes the model's variables"),
    "stateful": ("stateful.keras", "keras", {}, "STATEFUL_MODEL", "'remembers' keeps its state"),
}


@pytest.fixture(scope="module")
def lab(
    run_tensorflow: Callable[..., None], tensorflow_sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder and the report of tensorflow_lab.py for every source."""
    folder = tmp_path_factory.mktemp("lab")
    tasks = {name: task(tensorflow_sources, *one[:3]) for name, one in {**GOOD, **BAD}.items()}
    tasks["vouched"]["trusted"] = True
    (folder / "tasks.json").write_text(json.dumps(tasks))
    run_tensorflow("tensorflow_lab.py", folder / "tasks.json", folder)
    return folder, json.loads((folder / "report.json").read_text())


def task(written: Path, file: str | Path, kind: str, options: dict[str, str]) -> dict[str, object]:
    code = {name: f"{written}/{value}" if name == "arch" else value for name, value in options.items()}
    return {"source": str(written / file), "kind": kind, "options": code}


def arrays(folder: Path, what: str, number: int) -> dict[str, np.ndarray]:
    return {name: text(array) for name, array in np.load(folder / f"{what}-{number}.npz").items()}


def text(array: np.ndarray) -> np.ndarray:
    return array.astype(object) if array.dtype.kind == "S" else array


def converted(folder: Path, name: str, route: str, file: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(folder / name / route / file, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == list(feeds)
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("text", "svd")])
def test_every_conversion_answers_as_its_source_under_its_names(lab: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, report = lab
    found = report[name]
    routes = [route for route in found["routes"] if route != "tensorflow"]
    assert routes[0] == "tf2onnx"
    for route in routes:
        files = found["routes"][route]["files"]
        assert files.keys() == found["signatures"].keys()
        for number, signature in enumerate(found["signatures"]):
            answer = converted(folder, name, route, files[signature], arrays(folder / name, "feeds", number))
            expected = arrays(folder / name, "answer", number)
            assert list(answer) == [spec["name"] for spec in found["signatures"][signature]["outputs"]]
            for output, array in expected.items():
                np.testing.assert_allclose(answer[output], array, rtol=1e-5, atol=1e-6, err_msg=f"{route} {output}")


def test_channels_last_leave_a_transpose_at_either_end_and_none_between_convolutions(lab: tuple[Path, dict[str, Any]]) -> None:
    folder, report = lab
    for route, found in report["pictures"]["routes"].items():
        if route != "tensorflow":
            graph = onnx.load(folder / "pictures" / route / found["files"]["serving_default"]).graph
            kinds = Counter(node.op_type for node in graph.node)
            assert kinds["Conv"] == 4, (route, kinds)
            assert kinds["Transpose"] <= 2, (route, kinds)


@pytest.mark.parametrize("name", ["keras", "h5", "exported", "cut", "two", "tf2", "weights"])
def test_the_batch_stays_open(lab: tuple[Path, dict[str, Any]], name: str) -> None:
    signature = lab[1][name]["signatures"]["serving_default"]

    assert [spec["shape"] for spec in signature["inputs"]] == [["N", 8, 8, 3]]
    assert [spec["shape"] for spec in signature["outputs"]] == [["N", 3]]


@pytest.mark.parametrize("name", ["h5", "weights", "exported", "cut", "two", "tf2"])
def test_one_trained_model_answers_the_same_in_whatever_form_it_was_left(lab: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, report = lab
    first = next(iter(arrays(folder / "keras", "answer", 0).values()))
    place = list(report[name]["signatures"]).index("serving_default")

    np.testing.assert_allclose(next(iter(arrays(folder / name, "answer", place).values())), first, rtol=1e-5, atol=1e-6)


def test_the_ends_of_a_frozen_graph_are_found_or_named(lab: tuple[Path, dict[str, Any]]) -> None:
    found, named = (lab[1][name]["signatures"]["serving_default"] for name in ("frozen", "cut"))

    assert [spec["name"] for spec in found["outputs"]] == ["Identity", "Identity_1"]
    assert [spec["name"] for spec in named["outputs"]] == ["Identity"]
    assert [spec["name"] for spec in found["inputs"]] == ["image"]


def test_all_signatures_come_along(lab: tuple[Path, dict[str, Any]]) -> None:
    report = lab[1]["two"]

    assert report["signatures"].keys() == {"serving_default", "scale"}
    assert [spec["name"] for spec in report["signatures"]["scale"]["inputs"]] == ["factor", "x"]
    assert report["routes"]["tf2onnx"]["files"] == {"serving_default": "model.onnx", "scale": "model-2.onnx"}


def test_a_signature_that_learns_is_left_out_and_said(lab: tuple[Path, dict[str, Any]]) -> None:
    assert list(lab[1]["learning"]["signatures"]) == ["serving_default"]
    assert "'learn' was left out" in lab[1]["learning"]["notes"][0]


def test_a_keras_models_inputs_and_outputs_keep_their_names_whatever_structure_they_have(lab: tuple[Path, dict[str, Any]]) -> None:
    signature = lab[1]["structured"]["signatures"]["serving_default"]

    assert [(spec["name"], spec["shape"]) for spec in signature["inputs"]] == [("left", ["N", 4]), ("right", ["N", "right_1", 4])]
    assert "sum-of" in [spec["name"] for spec in signature["outputs"]]


def test_what_onnx_does_not_have_is_left_to_tensorflow_itself(lab: tuple[Path, dict[str, Any]]) -> None:
    for name in ("text", "svd"):
        routes = lab[1][name]["routes"]
        assert routes["tf2onnx"]["code"] == "CONVERSION_FAILED", name
        assert routes["tensorflow"]["engine"] == "tensorflow"
        assert routes["tensorflow"]["environment"] == "tensorflow"


def test_the_layers_of_a_keras_model_are_told_in_order_and_found_in_the_graph(lab: tuple[Path, dict[str, Any]]) -> None:
    report = lab[1]["keras"]

    assert report["layers"] == [
        ["conv", "Conv2D"],
        ["bn", "BatchNormalization"],
        ["relu", "ReLU"],
        ["pool", "GlobalAveragePooling2D"],
        ["probs", "Dense"],
    ]
    layers = report["routes"]["tf2onnx"]["layers"]
    # Convolution and batch norm became one.
    assert layers.keys() == {"relu", "pool", "probs"}
    assert layers["probs"] == "probs"


def test_a_session_is_restored_by_nodes_of_ours_and_its_answer_is_found_beside_its_loss(
    lab: tuple[Path, dict[str, Any]], tensorflow_sources: Path
) -> None:
    folder, report = lab
    kept = dict(np.load(tensorflow_sources / "tf1.npz"))
    for name in ("tf1", "session"):
        files = report[name]["routes"]["tf2onnx"]["files"]
        answer = converted(folder, name, "tf2onnx", files["serving_default"], {"x": kept["x"]})
        np.testing.assert_allclose(answer["probs"], kept["probs"], rtol=1e-5, atol=1e-6)
    assert "outputs probs" in report["tf1"]["notes"][0]
    assert report["tf1"]["parameters"] == 4 * 5 + 5 + 5 * 3


def test_wrappers_of_the_optimization_toolkit_come_off_without_it(lab: tuple[Path, dict[str, Any]]) -> None:
    """The files and the answers are real ones: tests/frameworks/make_keras2_files.py."""
    folder, report = lab
    answers = dict(np.load(KERAS2 / "answers.npz"))
    for name, output, far in (("pruned", "prune_low_magnitude_probs", 1e-6), ("quantised", "quant_probs", 0.05)):
        answer = converted(folder, f"keras2_{name}", "tf2onnx", "model.onnx", {"image": answers["images"]})
        np.testing.assert_allclose(answer[output], answers[name], atol=far)
    assert "Pruning wrappers were taken off" in report["keras2_pruned"]["notes"][0]
    assert "the float model" in report["keras2_quantised"]["notes"][0]


@pytest.mark.parametrize("name", ["keras2_h5", "keras2_keras", "keras2_checkpoint"])
def test_what_keras_2_wrote_answers_as_it_did_there(lab: tuple[Path, dict[str, Any]], name: str) -> None:
    answers = dict(np.load(KERAS2 / "answers.npz"))

    answer = converted(lab[0], name, "tf2onnx", "model.onnx", {"image": answers["images"]})

    np.testing.assert_allclose(answer["probs"], answers["plain"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_damaged_incomplete_or_hostile_is_refused_by_name(
    lab: tuple[Path, dict[str, Any]], tensorflow_sources: Path, name: str
) -> None:
    _, _, _, code, named = BAD[name]

    refusal = lab[1][name]

    assert refusal.get("code") == code, refusal
    assert named in refusal["message"]
    assert str(tensorflow_sources) not in refusal["message"] + refusal["hint"]
    assert not list(tensorflow_sources.rglob("canary*"))
