"""A version that needs an environment runs in that environment's Python, and dies, hangs and weighs like any other."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from small_environment import CRASH, ESCAPE, HANG, HELD_BYTES, fill, make_environment, publish, small_manifest

from towline.app.home import opened_store
from towline.app.importing.model import import_model
from towline.app.predicting.load import load
from towline.core.environments import python_of
from towline.core.errors import DeadlineExceeded, MissingExtra, VersionError, WorkerDied
from towline.core.manifest import Handler, Manifest
from towline.serve.workers.local import LocalWorker
from towline.testing import tiny_models
from towline.testing.server import RunningServer


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environments")
    make_environment(folder)
    return folder


@pytest.fixture(autouse=True)
def _environments_are_here(environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_ENVIRONMENTS", str(environments))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("home"))


def filled(folder: Path) -> Path:
    """A store with a version of the environment's, one that needs an environment nobody made, and an ONNX model."""
    with opened_store(folder) as store:
        publish(store, "small", small_manifest())
        publish(store, "lost", small_manifest("nowhere"))
    import_model(tiny_models.write(folder, tiny_models.mlp(), "mlp.onnx"), home=folder)
    return folder


@pytest.fixture(scope="module")
def server(home: Path, environments: Path) -> Iterator[RunningServer]:
    with RunningServer("small", "mlp", home=home, settings={"environments": environments}) as running:
        yield running


def ask(server: RunningServer, *x: float, timeout_ms: int = 0) -> tuple[int, object]:
    headers = {"X-Request-Timeout-Ms": str(timeout_ms)} if timeout_ms else {}
    status, raw = server.post("/v1/models/small:predict", json.dumps({"instances": [*x]}).encode(), headers)
    return status, json.loads(raw)


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


# One worker


def test_a_worker_runs_in_the_python_of_its_environment(environments: Path, tmp_path: Path) -> None:
    with LocalWorker.start(fill(tmp_path, small_manifest()), small_manifest()) as worker:
        answer = worker.run({"x": np.array([1, 2, 4], np.float32)})

        np.testing.assert_array_equal(answer["y"], [2, 4, 8])
        assert set(answer["where"]) == {str(environments / "small").encode()}
        assert worker.memory_bytes() >= HELD_BYTES


def test_a_run_that_kills_its_worker_is_told_by_the_signal(tmp_path: Path) -> None:
    with LocalWorker.start(fill(tmp_path, small_manifest()), small_manifest()) as worker, pytest.raises(WorkerDied, match="SIGSEGV"):
        worker.run({"x": np.array([CRASH], np.float32)})


def test_a_run_that_takes_too_long_is_ended_with_its_worker(tmp_path: Path) -> None:
    with LocalWorker.start(fill(tmp_path, small_manifest()), small_manifest()) as worker:
        with pytest.raises(DeadlineExceeded):
            worker.run({"x": np.array([HANG], np.float32)}, timeout_s=0.2)

        assert worker._process.wait(30) == -signal.SIGKILL


def test_a_worker_ends_with_whoever_asked_for_it(tmp_path: Path) -> None:
    worker = LocalWorker.start(fill(tmp_path, small_manifest()), small_manifest())
    worker.close()

    assert worker._process.wait(30) == 0


def escapes(folder: Path, manifest: Manifest) -> set[str]:
    """What an engine gets away with when it turns on its server."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (folder / "outside.txt").write_text(f"{outside} {listener.getsockname()[1]}")
        with LocalWorker.start(folder, manifest) as worker:
            answer = worker.run({"x": np.array([ESCAPE], np.float32)})
    return set(answer["where"][0].decode().split())


def test_an_engine_of_an_environment_reads_its_version_writes_nothing_and_speaks_to_nobody(
    environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_KEY", "secret")
    for name in ("walled", "open"):
        (tmp_path / name / "version").mkdir(parents=True)
    walled, unwalled = (fill(tmp_path / name / "version", small_manifest()) for name in ("walled", "open"))
    handler = Handler("Mine", python=str(environments / "small" / "bin" / "python"))

    assert escapes(walled, small_manifest()) == set()
    assert not (tmp_path / "walled" / "outside" / "written.txt").exists()
    # A user's own handler runs without walls: each attempt would succeed.
    privilege = {"privilege"} if os.geteuid() == 0 else set()
    trusted = msgspec.structs.replace(small_manifest(""), handler=handler)
    assert escapes(unwalled, trusted) == {"read", "write", "change", "connect", "send", "secret"} | privilege


# What is not there


def test_an_environment_that_was_never_made_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    manifest = small_manifest("nowhere")

    with pytest.raises(MissingExtra, match="'nowhere' environment") as caught:
        LocalWorker.start(fill(tmp_path, manifest), manifest)

    assert "towline env create nowhere" in caught.value.hint


@pytest.mark.parametrize("name", ["../small", "small/../small", "/small", "", "Small", "small\0", "sm all", "a" * 65])
def test_no_environment_is_reached_by_a_path(name: str, environments: Path) -> None:
    with pytest.raises(VersionError, match="no name of an environment"):
        python_of(name, {"TOWLINE_ENVIRONMENTS": str(environments)})


def test_an_engine_whose_library_is_missing_there_is_told(tmp_path: Path) -> None:
    manifest = small_manifest(engine="litert")

    with pytest.raises(VersionError, match="lacks 'ai_edge_litert'") as caught:
        LocalWorker.start(fill(tmp_path, manifest), manifest)

    assert "towline env create litert" in caught.value.hint


def test_what_runs_in_another_python_is_not_loaded_into_the_process_that_answers(home: Path) -> None:
    model = load("small", home=home)

    assert model.predict({"x": [1.0]})["y"].tolist() == [2.0]
    assert model._session._worker.pid != os.getpid()  # type: ignore[attr-defined]


# A server


def test_it_is_served_beside_others_over_v1_and_v2(server: RunningServer, environments: Path) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2], "data": [3, 4]}
    status, raw = server.post("/v2/models/small/infer", json.dumps({"inputs": [tensor]}).encode())
    where = str(environments / "small")

    assert ask(server, 1, 2) == (200, {"predictions": [{"y": 2.0, "where": where}, {"y": 4.0, "where": where}]})
    assert (status, json.loads(raw)["outputs"][0]["data"]) == (200, [6.0, 8.0])
    assert command_line(server.worker_pid("small"))[0] == str(environments / "small" / "bin" / "python")
    assert command_line(server.worker_pid("mlp"))[0] != command_line(server.worker_pid("small"))[0]


def test_a_request_that_crashes_it_is_refused_and_the_next_one_answered(server: RunningServer) -> None:
    before = server.worker_pid("small")

    status, body = ask(server, CRASH)

    assert status == 500, body
    assert ask(server, 5)[0] == 200
    server.wait_until(lambda: server.worker_pid("small") != before)


def test_a_run_past_its_deadline_is_answered_and_its_worker_replaced(server: RunningServer) -> None:
    before = server.worker_pid("small")
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [HANG]}
    body = json.dumps({"inputs": [tensor], "parameters": {"timeout": 200_000}}).encode()

    status, raw = server.post("/v2/models/small/infer", body)

    assert status == 504, raw
    server.wait_until(lambda: server.worker_pid("small") != before)
    assert ask(server, 7)[0] == 200


def test_a_version_without_its_environment_fails_by_name_and_no_process_is_started_for_it(tmp_path: Path, environments: Path) -> None:
    home = filled(tmp_path)
    with RunningServer("lost", "mlp", home=home, settings={"environments": environments}, await_ready=False) as server:
        found: dict[str, str] = {}

        def has_failed() -> bool:
            found.update((one["name"], one["error"]) for one in server.state().get("models", []) if one["state"] == "failed")
            return "lost" in found

        server.wait_until(has_failed)
        server.wait_until(lambda: server._worker_of("mlp") is not None)
        status, _ = server.post("/v1/models/mlp:predict", b'{"instances": [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]}')

        assert (
            found["lost"] == "This needs the 'nowhere' environment, which is not on this machine. Make it once: towline env create nowhere."
        )
        assert status == 200
        assert "could be started" not in server.log()
