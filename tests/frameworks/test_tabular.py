"""scikit-learn and LightGBM models become versions that answer as they do, whatever they predict; what holds no such model is refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tritonclient import http as triton

import towline
from towline.app.importing.sealing import ImportResult
from towline.core.environments import python_of
from towline.core.errors import ImportRefused
from towline.store.sqlite import open_store
from towline.testing.server import RunningServer

pytestmark = pytest.mark.frameworks

SCRIPTS = Path(__file__).parent
SOURCES = SCRIPTS.parents[1] / "src"
TRAIN_TIMEOUT_S = 300


def run_there(script: str, folder: Path) -> Path:
    """A script of this folder, run by the environment's Python, which is lent our package."""
    words = [python_of("tabular"), "-W", "ignore", str(SCRIPTS / script), str(folder)]
    environ = {**os.environ, "PYTHONPATH": str(SOURCES)}
    ran = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=TRAIN_TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def trained(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_there("tabular_models.py", tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def kinds(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_there("tabular_kinds.py", tmp_path_factory.mktemp("kinds"))


@pytest.fixture
def bring(trained: Path, tmp_path: Path) -> Callable[..., ImportResult]:
    def run(file: str, **more: object) -> ImportResult:
        return towline.import_model(trained / file, home=tmp_path / "home", **more)  # type: ignore[arg-type]

    return run


ON_DIGITS = ("forest.joblib", "pipeline.pkl", "boosting.pkl", "scaled.joblib", "lgbm.txt", "lgbm.pkl")


@pytest.mark.parametrize("file", ON_DIGITS)
def test_all_1797_digits_get_the_label_that_their_own_framework_gives_them(
    bring: Callable[..., ImportResult], trained: Path, tmp_path: Path, file: str
) -> None:
    version = bring(file).version

    digits, expected = np.load(trained / "digits.npz")["X"], np.load(trained / f"{file}.expected.npz")
    got = towline.load(str(version), home=tmp_path / "home").predict({"X": digits})
    assert len(digits) == 1797
    np.testing.assert_array_equal(got["label"], expected["label"])
    np.testing.assert_allclose(got["probabilities"], expected["probabilities"], atol=2e-6)
    assert version.manifest.signature.inputs[0].shape == ("N", 64)
    assert version.manifest.batchable


def test_they_are_served_over_v1_and_v2(bring: Callable[..., ImportResult], trained: Path, tmp_path: Path) -> None:
    """The user's own rows are what the version is proven with, and what it keeps."""
    result = bring("lgbm.txt", name="digits", sample=trained / "digits.npz")
    digits, expected = np.load(trained / "digits.npz")["X"][:5], np.load(trained / "lgbm.txt.expected.npz")

    with RunningServer(str(result.version), home=tmp_path / "home") as server:
        status, body = server.post("/v1/models/digits:predict", json.dumps({"instances": digits.tolist()}).encode())
        with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
            asked = triton.InferInput("X", list(digits.shape), "FP32")
            asked.set_data_from_numpy(digits)
            answered = client.infer("digits", [asked])

    rows = json.loads(body)["predictions"]
    assert (status, [row["label"] for row in rows]) == (200, expected["label"][:5].tolist())
    np.testing.assert_array_equal(answered.as_numpy("label"), expected["label"][:5])
    np.testing.assert_allclose(answered.as_numpy("probabilities"), expected["probabilities"][:5], atol=2e-6)


def test_where_float32_falls_on_the_other_side_of_a_split_the_version_computes_in_doubles(
    bring: Callable[..., ImportResult], trained: Path, tmp_path: Path
) -> None:
    digits, expected = np.load(trained / "digits.npz")["X"], np.load(trained / "scaled.joblib.expected.npz")["probabilities"]
    bring("scaled.joblib", name="doubles")
    try:
        bring("scaled.joblib", name="floats", options={"route": "skl2onnx"})
        floats = towline.load("floats", home=tmp_path / "home").predict({"X": digits})["probabilities"]
    except ImportRefused:
        floats = np.zeros_like(expected)

    doubles = towline.load("doubles", home=tmp_path / "home").predict({"X": digits})["probabilities"]
    # A vote of one tree in twenty is 0.05.
    assert np.abs(floats - expected).max() > 0.04
    np.testing.assert_allclose(doubles, expected, atol=2e-6)


def test_a_version_of_every_kind_of_model_answers_as_it_does_by_one_route_or_the_other(kinds: Path) -> None:
    told = json.loads((kinds / "told.json").read_text())
    assert len(told) == 34
    failures = []
    for kind, model in told.items():
        names = [name for name, _, _ in model["inputs"]]
        inputs = dict(zip(names, np.load(kinds / kind / "asked.npz", allow_pickle=True).values(), strict=True))
        expected = dict(np.load(kinds / kind / "answered.npz", allow_pickle=True))
        said = {
            route: message or unequal(kinds / kind / route / "model.onnx", inputs, expected) for route, message in model["routes"].items()
        }
        if all(said.values()):
            failures.append((kind, said))
    assert not failures


def unequal(model: Path, inputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str:
    """How an ONNX model's answers differ, or nothing."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options)
        got = dict(zip([one.name for one in session.get_outputs()], session.run(None, inputs), strict=True))
        for name, answer in expected.items():
            if answer.dtype.kind == "f":
                np.testing.assert_allclose(got[name], answer, rtol=1e-5, atol=1e-4)
            np.testing.assert_array_equal(got[name].shape, answer.shape)
            if answer.dtype.kind != "f":
                np.testing.assert_array_equal(got[name], answer)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_a_model_takes_a_table_or_a_column_for_each_thing_that_it_was_fitted_with(kinds: Path) -> None:
    told = json.loads((kinds / "told.json").read_text())

    assert told["columns by name"]["inputs"] == [
        ["age (years)", "float32", ["N", 1]],
        ["city", "string", ["N", 1]],
        ["children", "int64", ["N", 1]],
    ]
    assert told["one table with names"]["inputs"] == [["X", "float32", ["N", 2]]]
    assert told["one table with names"]["features"] == "age (years), unused"
    assert told["texts"]["inputs"] == [["text", "string", ["N", 1]]]
    assert told["classes with names"]["outputs"] == [["label", "string", ["N"]], ["probabilities", "float32", ["N", 10]]]
    assert told["several labels of a forest"]["outputs"][1] == ["probabilities", "float32", ["N", 2, 2]]
    assert told["regressor"]["outputs"] == [["prediction", "float32", ["N"]]]
    assert told["best of a search"]["architecture"] == "GridSearchCV(Pipeline(StandardScaler, LogisticRegression))"


REFUSED = {
    "custom.joblib": ("CUSTOM_CLASS", "__main__.Clip"),
    "function.joblib": ("CUSTOM_CODE", "log1p"),
    "unfitted.joblib": ("NOT_FITTED", "LogisticRegression"),
    "frame.pkl": ("NO_MODEL", "DataFrame"),
}


@pytest.mark.parametrize("file", REFUSED)
def test_what_is_no_model_that_can_be_converted_is_refused_by_name(bring: Callable[..., ImportResult], tmp_path: Path, file: str) -> None:
    code, named = REFUSED[file]

    with pytest.raises(ImportRefused, match=named.replace(".", r"\.")) as refusal:
        bring(file)

    assert refusal.value.code == code
    with open_store(tmp_path / "home") as store:
        assert list(store.versions()) == []


def test_a_pickle_that_runs_code_is_refused_by_what_it_calls(trained: Path, bring: Callable[..., ImportResult], tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {canary}",)

    (trained / "evil.pkl").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ImportRefused, match=r"would call 'posix\.system'") as refusal:
        bring("evil.pkl")

    assert refusal.value.code == "SOURCE_RUNS_CODE"
    assert not canary.exists()


@pytest.mark.parametrize(("file", "share"), [("forest.joblib", 0.5), ("pipeline.pkl", 0.01), ("pipeline.pkl", 0.999), ("lgbm.txt", 0.5)])
def test_a_torn_file_is_refused(trained: Path, bring: Callable[..., ImportResult], file: str, share: float) -> None:
    whole = (trained / file).read_bytes()
    torn = trained / f"torn-{share}-{file}"
    torn.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(ImportRefused) as refusal:
        bring(torn.name)

    assert refusal.value.code in ("DAMAGED_SOURCE", "CONVERTER_DIED", "OTHER_RELEASE")


def test_a_model_of_another_release_is_taken_with_a_word_about_it(bring: Callable[..., ImportResult]) -> None:
    (warning,) = [line for line in bring("older.pkl").report.warnings if "scikit-learn" in line]

    assert warning.startswith("Saved by scikit-learn 1.2.0, read by ")


def test_the_one_model_of_a_dict_is_taken_and_said_to_be(bring: Callable[..., ImportResult]) -> None:
    result = bring("dict.pkl")

    assert any("its 'model'" in line for line in result.report.warnings)
    assert result.version.manifest.origin.tools["architecture"] == "Pipeline(StandardScaler, LogisticRegression)"
