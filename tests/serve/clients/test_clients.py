"""Clients that know nothing of us, each in a process of its own, against a running server."""

from __future__ import annotations

import json
import shutil
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    model = tmp_path_factory.mktemp("clients") / "mlp.onnx"
    model.write_bytes(tiny_models.mlp())
    with RunningServer(model) as running:
        yield running


@pytest.fixture(scope="module")
def expected() -> Any:
    return onnxruntime.InferenceSession(tiny_models.mlp()).run(["y"], {"x": X})[0]


def session(script: str, server: RunningServer) -> dict[str, Any]:
    command = [sys.executable, str(HERE / script), f"127.0.0.1:{server.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_tritonclient_at_its_defaults_gets_the_models_own_answers(server: RunningServer, expected: Any) -> None:
    said = session("triton_session.py", server)

    assert (said["live"], said["ready"], said["model ready"]) == (True, True, True)
    assert said["metadata"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 10]}]
    for how in ("binary", "json", "gzip"):
        np.testing.assert_allclose(said[how], expected, rtol=1e-5, atol=1e-7)
    assert said["id"] == "seven"
    assert said["refusal"].startswith("400 ")
    assert "[-1, 10]" in said["refusal"] or "10" in said["refusal"]


def test_a_tf_serving_client_sees_what_tf_serving_would_show_it(server: RunningServer, expected: Any) -> None:
    said = session("ovms_session.py", server)

    assert said["status"] == {"1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    np.testing.assert_allclose(said["predict"], expected, rtol=1e-5, atol=1e-7)
    assert said["wrong width"].startswith("InvalidInputError")
    assert "Could not find any versions of model nobody" in said["nobody"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_needs_no_content_type(server: RunningServer, expected: Any) -> None:
    url = f"{server.url}/v1/models/mlp:predict"
    done = subprocess.run(["curl", "-s", "-d", json.dumps({"instances": X.tolist()}), url], capture_output=True, check=True, timeout=180)

    np.testing.assert_allclose(json.loads(done.stdout)["predictions"], expected, rtol=1e-5, atol=1e-7)
