"""Clients of Triton load, unload and look into models of a running server, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from towline.app.listing import events
from towline.testing import tiny_models
from towline.testing.server import RunningServer

HERE = Path(__file__).parent
X = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
OWN, SENT = tiny_models.mlp(), tiny_models.mlp(seed=9)


def answer_of(model: bytes) -> Any:
    return onnxruntime.InferenceSession(model).run(["y"], {"x": X})[0]


def session(script: str, *words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(HERE / script), *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_tritonclient_loads_unloads_and_looks(tmp_path: Path) -> None:
    model, sent = tiny_models.write(tmp_path, OWN, "mlp.onnx"), tiny_models.write(tmp_path, SENT, "sent.onnx")
    with RunningServer(model, home=tmp_path / "home", flags=("--model-control", "explicit")) as server:
        over_grpc = session("triton_repository_grpc_session.py", server.grpc_address, str(sent))
        said = session("triton_repository_session.py", f"127.0.0.1:{server.port}", str(sent))

    for name in ("sent", "again"):
        np.testing.assert_allclose(over_grpc[name], answer_of(SENT), rtol=1e-5, atol=1e-7)
    assert over_grpc["index"] == ["mlp", "over-grpc"]
    assert over_grpc["config"]["max_batch_size"] == 4
    assert over_grpc["statistics"][0]["execution_count"] == "1"
    assert over_grpc["unloaded"].startswith("StatusCode.NOT_FOUND")
    assert (over_grpc["trace"], "log_file" in over_grpc["logging"]) == (["OFF"], True)
    assert over_grpc["log_file"].startswith("StatusCode.PERMISSION_DENIED")
    assert over_grpc["unknown"].startswith("StatusCode.NOT_FOUND")

    assert {"model_repository", "statistics", "model_configuration"} <= set(said["extensions"])
    assert said["index"] == [
        {"name": "mlp", "version": "1", "state": "READY", "reason": ""},
        {"name": "over-grpc", "version": "1", "state": said["index"][1]["state"], "reason": said["index"][1]["reason"]},
    ]
    assert said["unloaded"].startswith("404 ")
    # Of a version that was loaded already.
    assert said["limited"] == 3
    assert said["ready"] is False
    for name, model_bytes in (("first", OWN), ("again", OWN), ("sent", SENT)):
        np.testing.assert_allclose(said[name], answer_of(model_bytes), rtol=1e-5, atol=1e-7)
    assert (said["config"]["name"], said["config"]["max_batch_size"]) == ("sent", 4)
    (counted,) = said["statistics"]["model_stats"]
    assert (counted["inference_count"], counted["execution_count"], counted["inference_stats"]["success"]["count"]) == (2, 1, 1)
    assert {"mlp", "sent"} <= set(said["all statistics"])
    assert said["trace"]["trace_level"] == ["OFF"]
    assert said["logging"]["log_file"] == ""
    assert said["log_file"].startswith("403 ")
    assert said["unknown"].startswith("404 ")
    assert said["broken"].startswith("400 ")
    assert [one["name"] for one in said["last index"] if one["state"] == "READY"] == ["mlp", "sent"]
    changed = [event for event in events(home=tmp_path / "home", kind="deployment.changed") if event.actor != "server"]
    assert {event.actor for event in changed} == {"openinference-rest 127.0.0.1", "openinference-grpc 127.0.0.1"}


def test_a_server_whose_owner_said_nothing_lets_nobody_change_its_models_and_tells_the_flag(tmp_path: Path) -> None:
    with RunningServer(tiny_models.write(tmp_path, OWN, "mlp.onnx")) as server:
        answers = [server.post(f"/v2/repository/models/mlp/{verb}", b"") for verb in ("load", "unload")]
        index = json.loads(server.post("/v2/repository/index", b"")[1])

    assert [(status, "--model-control explicit" in body.decode()) for status, body in answers] == [(403, True)] * 2
    assert [one["state"] for one in index] == ["READY"]
