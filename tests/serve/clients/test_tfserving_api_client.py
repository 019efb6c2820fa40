"""The stubs that TensorFlow Serving publishes, with TensorFlow's own make_tensor_proto and make_ndarray, against a running server."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from own_environment import session

from towline.testing import tiny_models
from towline.testing.server import RunningServer

pytestmark = pytest.mark.frameworks
X = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
SHAPE = {"dim": [{"size": "-1"}, {"size": "10"}]}


@pytest.fixture(scope="module", params=["aio", "native"])
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tfserving")
    models = {
        "mlp": tiny_models.mlp(),
        "text": tiny_models.identity("string"),
        "pets": tiny_models.identity(),
        "one": tiny_models.identity("float32", ("N", 1)),
    }
    files = [tiny_models.write(folder, model, f"{name}.onnx") for name, model in models.items()]
    with RunningServer(*files, flags=("--model-control", "explicit"), settings={"grpc_server": request.param}) as server:
        return session(".venv-client-tfserving", "tfserving_session.py", server.grpc_address)


@pytest.fixture(scope="module")
def expected() -> Any:
    return onnxruntime.InferenceSession(tiny_models.mlp()).run(["y"], {"x": X})[0]


def test_predict_gets_the_models_own_answers(said: Any, expected: Any) -> None:
    for how in ("predict", "version 1"):
        np.testing.assert_allclose(said[how], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(said["many rows"], np.repeat(expected, 16, axis=0), rtol=1e-5, atol=1e-7)
    assert said["answered"] == ["mlp", 1, "serving_default"]
    assert said["text"] == ["a", "你好"]
    assert said["filtered"] == ["y"]


def test_examples_are_classified_and_regressed_one_task_or_several_at_once(said: Any) -> None:
    assert said["classify"] == [[["0", 0.25], ["1", 0.75]], [["0", 1.0], ["1", 0.0]]]
    assert said["regress"] == [0.5, -2.0]
    assert said["multi"] == [[[["0", 0.25]], [["0", 4.0]]], [0.25, 4.0]]


def test_metadata_and_status_are_where_the_client_looks(said: Any) -> None:
    metadata = said["metadata"]

    assert metadata["inputs"]["x"] | {"name": ""} == {"name": "", "dtype": "DT_FLOAT", "tensorShape": SHAPE}
    assert metadata["outputs"]["y"] | {"name": ""} == {"name": "", "dtype": "DT_FLOAT", "tensorShape": SHAPE}
    assert (metadata["version"], metadata["method"]) == (1, "tensorflow/serving/predict")
    assert said["status"] == [[1, "AVAILABLE", 0]]


def test_refusals_have_tf_servings_codes_and_words(said: Any) -> None:
    assert said["short"].startswith("INVALID_ARGUMENT")
    assert "[N, 10]" in said["short"]
    assert said["version 9"].startswith("NOT_FOUND Servable not found for request: Specific(mlp, 9)")
    assert said["nobody"].startswith("NOT_FOUND Could not find any versions of model nobody")


def test_a_reload_replaces_what_is_served_and_a_refused_one_changes_nothing(said: Any) -> None:
    assert (said["reload"], said["reload back"]) == (0, 0)
    assert said["after the reload"]["mlp"] == "AVAILABLE"
    assert said["after the reload"]["pets"].startswith("NOT_FOUND")
    assert said["after all"] == [[0.25, 0.75]]
    assert said["reload of nobody"].startswith("NOT_FOUND")
