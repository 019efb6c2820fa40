"""KServe's own Python clients, REST and gRPC, against a running server: the Open Inference Protocol as KServe speaks it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from own_environment import session

from towline.testing import tiny_models
from towline.testing.server import RunningServer

pytestmark = pytest.mark.services
X = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
TEXT = ["a", "你好"]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("kserve")
    files = [
        tiny_models.write(folder, tiny_models.mlp(), "mlp.onnx"),
        tiny_models.write(folder, tiny_models.identity("string"), "text.onnx"),
        tiny_models.write(folder, tiny_models.slow(rounds=10_000, width=8), "slow.onnx"),
    ]
    with RunningServer(*files) as server:
        return session(".venv-client-kserve", "kserve_session.py", server.url, server.grpc_address)


@pytest.mark.parametrize(("protocol", "how"), [("rest", "json"), ("rest", "binary"), ("grpc", "typed"), ("grpc", "raw")])
def test_every_form_of_a_tensor_gets_the_models_own_answers(said: Any, protocol: str, how: str) -> None:
    answer = said[protocol][how]

    assert (answer["id"], answer["model"], answer["shape"]) == ("seven", "mlp", [2, 10])
    expected = onnxruntime.InferenceSession(tiny_models.mlp()).run(["y"], {"x": X})[0]
    np.testing.assert_allclose(answer["y"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("protocol", "how"), [("rest", "text"), ("rest", "binary text"), ("grpc", "text"), ("grpc", "raw text")])
def test_text_comes_back_as_it_went(said: Any, protocol: str, how: str) -> None:
    assert said[protocol][how] == TEXT


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_it_is_told_what_is_live_and_ready(said: Any, protocol: str) -> None:
    assert [said[protocol][what] for what in ("live", "ready", "model ready")] == [True, True, True]


def test_refusals_have_the_status_and_the_words_that_the_client_shows(said: Any) -> None:
    assert said["rest"]["nobody ready"] is False
    assert said["rest"]["short"].startswith("400 Input 'x' takes shape [N, 10], got [2, 9].")
    assert said["rest"]["nobody"].startswith("404 Request for unknown model: 'nobody' is not found")
    assert said["grpc"]["short"] == "StatusCode.INVALID_ARGUMENT Input 'x' takes shape [N, 10], got [2, 9]."
    assert said["grpc"]["nobody"] == "StatusCode.NOT_FOUND Request for unknown model: 'nobody' is not found"
    assert said["grpc"]["late"].startswith("StatusCode.DEADLINE_EXCEEDED")
