"""Sources of TensorFlow and Keras go the whole way: imported, proven equal, served under the names that their clients know."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import towline
from towline.app.importing.model import import_model
from towline.app.importing.sealing import ImportResult
from towline.testing.server import RunningServer

pytestmark = pytest.mark.frameworks

ROOT = Path(__file__).parents[2]
IMAGES = np.random.default_rng(5).random((3, 8, 8, 3), np.float32)


def package(name: str) -> Path:
    return next((ROOT / ".venv-frameworks").glob(f"lib/python3.*/site-packages/{name}"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def imported(environments: Path, tensorflow_sources: Path, home: Path) -> dict[str, ImportResult]:
    files = {"two": "two", "text": "text", "digits": "model.keras"}
    return {name: import_model(tensorflow_sources / file, name=name, home=home) for name, file in files.items()}


@pytest.fixture(scope="module")
def server(environments: Path, home: Path, imported: dict[str, ImportResult]) -> Iterator[RunningServer]:
    with RunningServer(*imported, home=home, settings={"environments": environments, "request_timeout_s": 60}) as running:
        yield running


def v1(server: RunningServer, model: str, **body: object) -> object:
    status, raw = server.post(f"/v1/models/{model}:predict", json.dumps(body).encode())
    assert status == 200, raw
    answer = json.loads(raw)
    return answer.get("predictions", answer.get("outputs"))


def v2(server: RunningServer, model: str, name: str, datatype: str, shape: list[int], values: list[object]) -> dict[str, list[object]]:
    tensor = {"name": name, "datatype": datatype, "shape": shape, "data": values}
    status, raw = server.post(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}).encode())
    assert status == 200, raw
    return {one["name"]: one["data"] for one in json.loads(raw)["outputs"]}


def test_the_engine_keeps_its_contract_and_a_run_can_be_stopped(run_tensorflow: Callable[..., None], tensorflow_sources: Path) -> None:
    run_tensorflow("tensorflow_contract.py", tensorflow_sources)


def test_what_converts_runs_in_onnx_runtime_and_the_rest_in_tensorflow(imported: dict[str, ImportResult]) -> None:
    engines = {name: (result.version.manifest.engine, result.version.manifest.environment) for name, result in imported.items()}

    assert engines == {
        "two": ("onnxruntime", ""),
        "text": ("tensorflow", "tensorflow"),
        "digits": ("onnxruntime", ""),
    }


def test_one_training_answers_the_same_as_keras_and_as_saved_model(server: RunningServer) -> None:
    by_saved_model = v1(server, "two", instances=IMAGES.tolist())
    by_keras = v2(server, "digits", "image", "FP32", [3, 8, 8, 3], IMAGES.reshape(-1).tolist())["probs"]

    np.testing.assert_allclose(np.reshape(by_keras, (3, 3)), by_saved_model, rtol=1e-5, atol=1e-6)


def test_a_client_chooses_a_signature_as_it_did_with_tensorflow_serving(server: RunningServer) -> None:
    x = [[1.0, 2.0, 3.0, 4.0]]

    assert v1(server, "two", signature_name="scale", inputs={"x": x, "factor": 2.0}) == [[2.0, 4.0, 6.0, 8.0]]
    status, raw = server.post("/v1/models/two:predict", json.dumps({"signature_name": "nothing", "instances": x}).encode())
    assert status == 400
    assert b"nothing" in raw


def test_text_a_table_and_an_operation_that_onnx_lacks_are_served_by_tensorflow(server: RunningServer) -> None:
    expected = [{"upper": "CAT", "bytes": 3, "id": 7}, {"upper": "COW", "bytes": 3, "id": -1}]

    assert v1(server, "text", instances=["cat", "cow"]) == expected
    assert v2(server, "text", "text", "BYTES", [2], ["dog", "ému"])["id"] == [9, -1]


def test_a_worker_of_tensorflow_that_is_killed_comes_back(server: RunningServer) -> None:
    os.kill(server.worker_pid("text"), signal.SIGKILL)

    server.wait_until(lambda: v1_status(server) == 200, timeout_s=300)
    assert v2(server, "text", "text", "BYTES", [1], ["dog"])["id"] == [9]


def v1_status(server: RunningServer) -> int:
    return server.post("/v1/models/text:predict", b'{"instances": ["cat"]}')[0]


def test_basic_pitch_agrees_with_its_own_onnx_and_tflite(environments: Path, home: Path, tmp_path: Path) -> None:
    """One model that its makers left in several formats; what it hears is a chord."""
    folder = package("basic_pitch") / "saved_models" / "icassp_2022"
    seconds = np.arange(43844, dtype=np.float32) / 22050
    chord = sum(0.2 * np.sin(2 * np.pi * hertz * seconds) for hertz in (261.6, 329.6, 392.0)) * np.exp(-seconds)
    sound = np.asarray(chord, np.float32).reshape(1, -1, 1)
    np.savez(tmp_path / "chord.npz", input_2=sound)

    version = import_model(folder / "nmp", name="pitch", home=home, sample=tmp_path / "chord.npz").version

    assert version.manifest.engine == "onnxruntime"
    session = ort.InferenceSession(folder / "nmp.onnx", providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: sound})
    import_model(folder / "nmp.tflite", name="pitch_lite", home=home)
    answer = towline.load("pitch", home=home).predict(sound)
    lite = towline.load("pitch_lite", home=home).predict(sound)
    for name, array in answer.items():
        for others in (theirs, list(lite.values())):
            assert min(float(np.abs(one - array).max()) for one in others if one.shape == array.shape) < 1e-5, name


def test_a_keras_file_of_years_ago_is_taken(environments: Path, home: Path) -> None:
    manifest = import_model(package("cifar_10_model") / "trained_models" / "cnn_model.h5", name="cifar", home=home).version.manifest

    assert manifest.engine == "onnxruntime"
    assert [(spec.name, spec.shape) for spec in manifest.signature.inputs] == [("conv2d_input", ("N", 32, 32, 3))]
    assert manifest.facts.parameters == 968_396
