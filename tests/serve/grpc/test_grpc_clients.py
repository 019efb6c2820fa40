"""gRPC clients that know nothing of us, each in a process of its own, get the answers that HTTP gives."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towline.testing.server import RunningServer

HERE = Path(__file__).parent
X = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)


def session(script: str, server: RunningServer) -> dict[str, Any]:
    command = [sys.executable, str(HERE / script), server.grpc_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def needs(package: str) -> pytest.MarkDecorator:
    # Looked for and not imported: two of these clients cannot live in one process.
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def expected(server: RunningServer) -> Any:
    """What HTTP answers."""
    status, body = server.post("/v1/models/mlp:predict", json.dumps({"instances": X.tolist()}).encode())
    assert status == 200
    return np.array(json.loads(body)["predictions"])


@needs("tritonclient")
def test_tritonclient_at_its_defaults(server: RunningServer, expected: Any) -> None:
    said = session("triton_grpc_session.py", server)

    assert (said["live"], said["ready"], said["model ready"], said["server"]) == (True, True, True, "towline")
    assert said["metadata"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "10"]}]
    for how in ("infer", "gzip"):
        np.testing.assert_allclose(said[how], expected, rtol=1e-5, atol=1e-7)
    assert said["id"] == "seven"
    assert [word.split(":")[1] for word in said["best"]] == [str(index) for row in expected for index in np.argsort(-row)[:2]]
    assert said["text"] == ["a", "你好"]
    assert said["short"].startswith("StatusCode.INVALID_ARGUMENT")
    assert "[N, 10]" in said["short"]
    assert said["nobody"].startswith("StatusCode.NOT_FOUND Request for unknown model: 'nobody'")


@needs("tritonclient")
def test_tritonclient_streams(server: RunningServer, expected: Any) -> None:
    said = session("triton_stream_session.py", server)

    assert [id for id, _ in said["answers"]] == [str(number) for number in range(100)]
    for _, answer in said["answers"]:
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-7)
    assert said["after an error"] == ["[N, 10]", "right"]
    assert said["final"] is True
    assert said["cancelled"].startswith("StatusCode.CANCELLED")


@needs("ovmsclient")
def test_a_tf_serving_client(server: RunningServer, expected: Any) -> None:
    said = session("ovms_grpc_session.py", server)

    np.testing.assert_allclose(said["predict"], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(said["version 1"], expected, rtol=1e-5, atol=1e-7)
    assert said["status"] == {"1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    assert said["metadata"]["inputs"] == {"x": {"shape": [-1, 10], "dtype": "DT_FLOAT"}}
    assert said["metadata"]["model_version"] == 1
    assert "[N, 10]" in said["wrong width"]
    assert said["nobody"].startswith("ModelNotFoundError")


@needs("open_inference")
def test_the_open_inference_stubs(server: RunningServer, expected: Any) -> None:
    said = session("open_inference_session.py", server)

    assert (said["live"], said["model ready"], said["id"], said["shape"]) == (True, True, "seven", [2, 10])
    np.testing.assert_allclose(np.reshape(said["infer"], (2, 10)), expected, rtol=1e-5, atol=1e-7)
