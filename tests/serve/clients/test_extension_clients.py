"""Triton's clients and Triton's extensions: text, classification, priorities, deadlines, requests at once, configuration, statistics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from towline.testing import tiny_models
from towline.testing.server import RunningServer

HERE = Path(__file__).parent
X = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
TEXT = ["a", "你好"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("extensions")
    models = {"mlp": tiny_models.mlp(), "text": tiny_models.identity("string"), "slow": tiny_models.slow(rounds=10_000, width=8)}
    with RunningServer(*(tiny_models.write(folder, model, f"{name}.onnx") for name, model in models.items())) as running:
        yield running


def session(script: str, *addresses: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(HERE / script), *addresses], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def over_grpc(server: RunningServer) -> dict[str, Any]:
    return session("triton_extensions_grpc_session.py", server.grpc_address)


@pytest.fixture(scope="module")
def over_http(server: RunningServer) -> dict[str, Any]:
    return session("triton_extensions_session.py", f"127.0.0.1:{server.port}")


@pytest.fixture(params=["over_http", "over_grpc"])
def said(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def expected() -> Any:
    return onnxruntime.InferenceSession(tiny_models.mlp()).run(["y"], {"x": X})[0]


def every(said: dict[str, Any], start: str) -> list[Any]:
    return [value for key, value in said.items() if key.split(",")[0] == start]


def test_text_comes_back_as_it_went(said: dict[str, Any]) -> None:
    for words in every(said, "text"):
        assert words == TEXT


def test_the_best_classes_are_ranked_as_value_and_index(said: dict[str, Any], expected: Any) -> None:
    for words in every(said, "best"):
        assert [word.split(":")[1] for word in words] == [str(index) for row in expected for index in np.argsort(-row)[:2]]
        np.testing.assert_allclose([float(word.split(":")[0]) for word in words], np.sort(expected)[:, :-3:-1].reshape(-1), rtol=1e-4)


def test_what_is_urgent_named_by_version_or_sent_at_once_gets_the_models_answers(said: dict[str, Any], expected: Any) -> None:
    for answer in [said["urgent"], said["version"], *every(said, "deflate"), *said["at once"]]:
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-7)
    assert len(said["at once"]) == 8
    assert said["version 9"].split()[0] in ("404", "StatusCode.NOT_FOUND")


def test_a_timeout_in_microseconds_is_held(said: dict[str, Any]) -> None:
    assert said["late"].split()[0] in ("504", "StatusCode.DEADLINE_EXCEEDED")


def test_configuration_and_statistics_are_those_of_the_model(said: dict[str, Any]) -> None:
    assert (said["config"]["name"], said["config"]["input"][0]["data_type"]) == ("mlp", "TYPE_FP32")
    assert said["after"] == said["before"] + 1


def test_a_stream_carries_deadlines_and_classes_too(over_grpc: dict[str, Any], expected: Any) -> None:
    error, id, words = over_grpc["streamed"]

    assert "within the 1 ms this request could wait" in error
    assert (id, [word.split(":")[1] for word in words]) == ("first", [str(index) for index in expected.argmax(axis=1)])


def test_a_client_that_waits_no_longer_than_its_own_deadline_is_told_so(over_grpc: dict[str, Any]) -> None:
    assert over_grpc["late for the client"].startswith("StatusCode.DEADLINE_EXCEEDED")


def test_the_clients_for_asyncio_ask_many_at_once_and_stream(server: RunningServer, expected: Any) -> None:
    said = session("triton_async_session.py", f"127.0.0.1:{server.port}", server.grpc_address)

    for protocol in ("http", "grpc"):
        assert said[protocol]["live"] is True
        assert len(said[protocol]["at once"]) == 16
        for answer in said[protocol]["at once"]:
            np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-7)
    assert said["grpc"]["streamed"] == [[str(number), None] for number in range(16)]
