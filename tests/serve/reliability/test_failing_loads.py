"""Versions that cannot be loaded: named, tried again with pauses, and never at the cost of the others."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from known_models import mlp_asks, publish, publish_dying, publish_endless
from load import Load

from towline.app.importing.model import import_model
from towline.core.manifest import TensorSpec
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.testing.server import RunningServer

MODEL = tiny_models.mlp()
ROW = (TensorSpec("x", "float32", ("N", 10)),)
PROBABILITIES = (TensorSpec("y", "float32", ("N", 10)),)
PETABYTE = 1 << 50


@pytest.fixture(scope="module")
def began_s() -> float:
    """Before there was a server that could try anything."""
    return time.monotonic()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, began_s: float) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("home")
    publish_dying(home, "dying")
    publish(home, "huge", tiny_models.mlp(seed=1), ROW, PROBABILITIES, memory_bytes=PETABYTE)
    publish(home, "good", MODEL, ROW, PROBABILITIES, batchable=True)
    broken = publish(home, "broken", tiny_models.mlp(seed=2), ROW, PROBABILITIES)
    broken.path.chmod(0o755)
    (broken.path / "model.onnx").chmod(0o644)
    with (broken.path / "model.onnx").open("r+b") as file:
        file.seek(200)
        file.write(b"\x55")
    with RunningServer(home=home, await_ready=False) as running:
        running.wait_until(lambda: states(running).get("good") == "ready" and states(running).get("dying") == "failed", timeout_s=60)
        yield running


def states(server: RunningServer) -> dict[str, str]:
    return {model["name"]: model["state"] for model in server.state().get("models", [])}


def error_of(server: RunningServer, name: str) -> str:
    return str(next(model["error"] for model in server.state()["models"] if model["name"] == name))


def test_the_others_are_served_and_readyz_names_those_that_are_not(server: RunningServer) -> None:
    with Load(server.host, server.port, mlp_asks("good", MODEL), clients=16) as load:
        load.await_answers(100)
    status, body = server.get("/readyz")

    assert load.failures == []
    assert status == 503
    assert all(name in body.decode() for name in ("dying", "huge", "broken"))
    assert "good" not in body.decode()


def test_a_request_to_one_that_is_not_there_is_refused_with_a_time_to_come_back(server: RunningServer) -> None:
    ask = mlp_asks("dying", MODEL)[0]
    status, body = server.post(ask.path, ask.body)

    assert (status, json.loads(body)["code"]) == (503, "MODEL_NOT_READY")


def test_one_that_cannot_be_loaded_is_tried_again_with_growing_pauses(server: RunningServer, began_s: float) -> None:
    def tried(name: str) -> int:
        return server.log().count(f"{name}:1 is not ready")

    server.wait_until(lambda: tried("dying") >= 3 and tried("huge") >= 3)
    tries = tried("dying"), tried("huge")

    # Pauses of 1, 2, 4, … seconds are between them.
    assert 2 ** (max(tries) - 1) - 1 <= time.monotonic() - began_s


def test_a_changed_file_is_never_loaded(server: RunningServer) -> None:
    # While it is tried again it has no error.
    server.wait_until(lambda: "changed after sealing" in error_of(server, "broken"))


def test_what_does_not_fit_into_memory_is_not_tried_unless_forced(server: RunningServer, tmp_path: Path) -> None:
    server.wait_until(lambda: "MiB as measured at import" in error_of(server, "huge"))

    publish(tmp_path, "huge", tiny_models.mlp(seed=1), ROW, PROBABILITIES, memory_bytes=PETABYTE)
    with RunningServer(home=tmp_path, flags=("--force",)) as forced:
        ask = mlp_asks("huge", tiny_models.mlp(seed=1))[0]
        assert ask.check(*forced.post(ask.path, ask.body)) == ""


def test_a_version_that_answers_otherwise_than_at_import_never_serves(tmp_path: Path) -> None:
    x = np.ones((1, 10), np.float32)
    publish(tmp_path, "other", MODEL, ROW, PROBABILITIES, golden=({"x": x}, {"y": np.full((1, 10), 0.1, np.float32)}))
    with RunningServer(home=tmp_path, await_ready=False) as server:
        server.wait_until(lambda: "other" in states(server) and "does not answer as it did" in error_of(server, "other"))

        assert server.get("/readyz")[0] == 503


def test_a_load_that_never_ends_is_given_up_with_its_worker_while_others_answer(tmp_path: Path) -> None:
    publish(tmp_path, "good", MODEL, ROW, PROBABILITIES, batchable=True)
    publish_endless(tmp_path, "endless")
    seen: set[int] = set()

    def has_lost_a_worker() -> bool:
        now = server.pids()["worker"]
        seen.update(now)
        return bool(seen - set(now))

    # Time enough for the good one, wherever this runs.
    with RunningServer(home=tmp_path, settings={"load_timeout_s": 3}, await_ready=False) as server:
        server.wait_until(lambda: states(server).get("good") == "ready")
        with Load(server.host, server.port, mlp_asks("good", MODEL), clients=4) as load:
            server.wait_until(has_lost_a_worker)
            server.wait_until(lambda: "did not answer 'warm' within 3 s" in error_of(server, "endless"))
            load.await_answers(32)

        assert load.failures == []


def test_a_broken_new_version_leaves_the_old_one_serving(tmp_path: Path) -> None:
    import_model(tiny_models.write(tmp_path, MODEL, "good.onnx"), name="good", home=tmp_path / "home")
    with (
        RunningServer("good", home=tmp_path / "home") as server,
        Load(server.host, server.port, mlp_asks("good", MODEL), clients=16) as load,
    ):
        load.await_answers(32)
        publish_new_and_bad(tmp_path / "home")
        server.wait_until(lambda: any(model["state"] == "failed" for model in server.state()["models"]))
        load.await_answers(64)
        listed = json.loads(server.get("/v1/models/good")[1])["model_version_status"]
        assert server.is_ready()

    assert load.failures == []
    assert {entry["version"]: entry["state"] for entry in listed} == {"2": "END", "1": "AVAILABLE"}


def publish_new_and_bad(home: Path) -> None:
    """The next number of `good`, whose model is no model."""
    with open_store(home) as store, store.stage() as folder:
        version = store.versions("good")[0]
        shutil.copytree(version.path, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
        (folder / version.manifest.model_file).write_bytes(b"\x08\x08 no model at all")
        store.publish(folder, "good", actor="tester")
