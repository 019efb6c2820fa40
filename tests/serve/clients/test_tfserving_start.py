"""A server started as TF Serving is started: its files, its flags, its ports, and a configuration that a client replaces."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest

from towline.serve.protocols.grpc.messages import MESSAGES
from towline.testing import tiny_models
from towline.testing.server import RunningServer

MODELS = {number: tiny_models.mlp(seed=number) for number in range(1, 5)}
ROW = [[0.25] * 10]
COMPAT = ("--compat", "tfserving", "--rest_api_port=0")


def put(folder: Path, number: int, model: bytes) -> None:
    temporary = folder / f"tmp-{number}"
    temporary.mkdir(parents=True)
    (temporary / "model.onnx").write_bytes(model)
    temporary.rename(folder / str(number))


def states(server: RunningServer, name: str) -> dict[int, str]:
    status, body = server.get(f"/v1/models/{name}")
    listed = json.loads(body).get("model_version_status", []) if status == 200 else []
    return {int(entry["version"]): entry["state"] for entry in listed}


def served(server: RunningServer, name: str) -> list[int]:
    return sorted(number for number, state in states(server, name).items() if state == "AVAILABLE")


def answers_as(server: RunningServer, path: str, number: int) -> bool:
    status, body = server.post(f"/v1/models/{path}:predict", json.dumps({"instances": ROW}).encode())
    expected = onnxruntime.InferenceSession(MODELS[number]).run(["y"], {"x": np.asarray(ROW, np.float32)})[0]
    return status == 200 and bool(np.allclose(json.loads(body)["predictions"], expected, atol=1e-5))


def reload(server: RunningServer, *models: dict[str, Any]) -> grpc.StatusCode:
    request = MESSAGES["tensorflow.serving.ReloadConfigRequest"]()
    request.config.model_config_list.SetInParent()
    for model in models:
        request.config.model_config_list.config.add(**model)
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
        try:
            call(request.SerializeToString(), timeout=60)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def config(*models: str) -> str:
    return "model_config_list {" + " ".join(f"config {{ {model} }}" for model in models) + "}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for number in (1, 2):
        put(folder / "a", number, MODELS[number])
        put(folder / "b", number, MODELS[number])
    (folder / "a" / "9").mkdir()
    (folder / "a" / "9" / "saved_model.pb").write_bytes(b"\x08\x01")
    return folder


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    file = folder / "models.config"
    a = f'name: "a" base_path: "{folder}/a" model_platform: "tensorflow"'
    b = f'name: "b" base_path: "{folder}/b" model_version_policy {{ all {{}} }} version_labels {{ key: "stable" value: 1 }}'
    file.write_text(config(a, b))
    return file


@pytest.fixture(scope="module")
def server(folder: Path, file: Path) -> Iterator[RunningServer]:
    batching = folder / "batching.config"
    batching.write_text("max_batch_size { value: 32 } batch_timeout_micros { value: 1000 } num_batch_threads { value: 4 }")
    flags = (
        *COMPAT,
        f"--model_config_file={file}",
        "--model_config_file_poll_wait_seconds=1",
        "--enable_batching",
        f"--batching_parameters_file={batching}",
        "--model-control",
        "explicit",
    )
    # A machine without environments, wherever the tests run.
    settings = {"keep_versions_s": 0, "environments": folder / "environments"}
    with RunningServer(flags=flags, settings=settings, await_ready=False) as running:
        running.wait_until(lambda: served(running, "a") == [2] and served(running, "b") == [1, 2], timeout_s=30)
        yield running


def test_each_model_has_the_versions_of_its_policy_and_its_labels(server: RunningServer) -> None:
    assert answers_as(server, "a", 2)
    assert answers_as(server, "b/labels/stable", 1)
    assert answers_as(server, "b/versions/2", 2)


def test_what_is_not_needed_of_batching_is_told_once_and_the_rest_held_to(server: RunningServer) -> None:
    log = server.log()
    assert log.count("natural batching needs no timeout") == 1
    assert log.count("num_batch_threads") == 1
    assert json.loads(server.get("/v2/models/a/config")[1])["max_batch_size"] == 32


def test_a_saved_model_without_its_environment_is_told_once_with_what_makes_it_and_the_next_lower_version_serves(
    server: RunningServer,
) -> None:
    server.wait_until(lambda: "a:9 was not imported" in server.log())
    assert server.log().count("a:9 was not imported") == 1
    assert "towline env create tensorflow" in server.log()
    assert served(server, "a") == [2]


def test_the_file_is_read_again_and_a_broken_one_changes_nothing(server: RunningServer, file: Path, folder: Path) -> None:
    before = file.read_text()
    file.write_text("model_config_list {")
    server.wait_until(lambda: "left as it was" in server.log())
    assert (served(server, "a"), served(server, "b")) == ([2], [1, 2])

    file.write_text(config(f'name: "a" base_path: "{folder}/a" model_version_policy {{ specific {{ versions: 1 }} }}'))
    server.wait_until(lambda: served(server, "a") == [1] and served(server, "b") == [], timeout_s=20)
    # What is gone is told as ended, as TF Serving tells it.
    server.wait_until(lambda: set(states(server, "b").values()) == {"END"})

    file.write_text(before)
    server.wait_until(lambda: served(server, "a") == [2] and served(server, "b") == [1, 2], timeout_s=20)


def test_a_client_replaces_the_whole_configuration_and_it_outlives_the_controller(server: RunningServer, folder: Path) -> None:
    assert reload(server, {"name": "a", "base_path": f"{folder}/a/", "model_version_policy": {"all": {}}}) == grpc.StatusCode.OK
    # Answered when it is so.
    assert (served(server, "a"), served(server, "b")) == ([1, 2], [])

    killed = server.controller_pid
    os.kill(killed, signal.SIGKILL)
    server.wait_until(lambda: server.controller_pid not in (0, killed))
    put(folder / "a", 3, MODELS[3])
    server.wait_until(lambda: served(server, "a") == [1, 2, 3], timeout_s=20)
    assert served(server, "b") == []


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ({"name": "a", "base_path": "/etc"}, grpc.StatusCode.PERMISSION_DENIED),
        ({"name": "nobody"}, grpc.StatusCode.NOT_FOUND),
        ({"name": "a", "model_version_policy": {"specific": {"versions": [99]}}}, grpc.StatusCode.NOT_FOUND),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused_whole(
    server: RunningServer, model: dict[str, Any], code: grpc.StatusCode
) -> None:
    before = served(server, "a")
    assert reload(server, model) == code
    assert served(server, "a") == before


def test_one_model_by_flags_is_called_default_and_no_client_replaces_it(folder: Path) -> None:
    with RunningServer(flags=(*COMPAT, f"--model_base_path={folder}/b"), await_ready=False) as server:
        server.wait_until(lambda: served(server, "default") == [2], timeout_s=30)
        assert reload(server, {"name": "default", "base_path": f"{folder}/b"}) == grpc.StatusCode.PERMISSION_DENIED
        assert answers_as(server, "default", 2)
