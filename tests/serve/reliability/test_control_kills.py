"""Whoever is killed while models are loaded and unloaded: what was acknowledged is what is served, then and after a restart."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from known_models import mlp_asks
from load import Load

from towline.app.importing.model import import_model
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.testing.server import RunningServer

EXPLICIT = ("--model-control", "explicit")
MODEL = tiny_models.mlp()
KILLS = 6


@pytest.fixture
def home(tmp_path: Path) -> Path:
    import_model(tiny_models.write(tmp_path, MODEL, "mlp.onnx"), name="other", home=tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(tmp_path / "mlp.onnx", home=home, flags=EXPLICIT) as running:
        yield running


def change(server: RunningServer, verb: str, name: str = "other", body: bytes = b"") -> tuple[int, bytes]:
    return server.ask("POST", f"/v2/repository/models/{name}/{verb}", body, timeout_s=60)


def changed(server: RunningServer, verb: str, name: str = "other") -> int:
    """The status of a change, asked for again where a busy machine had no controller for a while."""
    for _ in range(10):
        status, body = change(server, verb, name)
        if status != 503:
            break
        assert json.loads(body)["code"] == "CONTROLLER_AWAY"
    return status


def ready(server: RunningServer) -> list[str]:
    return sorted(one["name"] for one in json.loads(server.post("/v2/repository/index", b'{"ready": true}')[1]))


def deployed(home: Path) -> list[str]:
    with open_store(home, read_only=True) as store:
        return [one.name for one in store.deployments()]


def beside(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_loads_and_unloads_cost_a_bystander_no_request(server: RunningServer) -> None:
    with Load(server.host, server.port, mlp_asks("mlp", MODEL), clients=8) as load:
        load.await_answers(32)
        for _ in range(3):
            assert change(server, "load")[0] == 200
            assert ready(server) == ["mlp", "other"]
            assert change(server, "unload")[0] == 200
            assert ready(server) == ["mlp"]
        load.await_answers(32)

    assert load.failures == []


def test_a_controller_killed_in_the_midst_of_a_change_is_asked_again_and_the_client_told_once(server: RunningServer, home: Path) -> None:
    for verb in ("load", "unload"):
        killed = server.controller_pid
        # Stopped, it takes the question without being able to answer; killed, it can answer no more.
        os.kill(killed, signal.SIGSTOP)
        said: list[int] = []
        asking = beside(lambda verb=verb, said=said: said.append(changed(server, verb)))
        os.kill(killed, signal.SIGKILL)
        asking.join(120)

        assert said == [200]
        assert ready(server) == (["mlp", "other"] if verb == "load" else ["mlp"])
        assert deployed(home) == ready(server)


@pytest.mark.services
def test_a_controller_that_does_not_answer_is_told_as_away_and_what_is_served_goes_on(server: RunningServer) -> None:
    stopped = server.controller_pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        status, body = change(server, "load")
        assert (status, json.loads(body)["code"]) == (503, "CONTROLLER_AWAY")
        assert ready(server) == ["mlp"]
    finally:
        os.kill(stopped, signal.SIGCONT)


def test_what_was_unloaded_stays_so_through_a_controllers_death_though_the_command_line_names_it(server: RunningServer, home: Path) -> None:
    assert change(server, "unload", "mlp")[0] == 200
    killed = server.controller_pid
    os.kill(killed, signal.SIGKILL)
    server.wait_until(lambda: server.controller_pid not in (0, killed))
    # It answers this only after it has decided what to serve.
    assert changed(server, "load") == 200

    assert ready(server) == deployed(home) == ["other"]


@pytest.mark.services
@pytest.mark.parametrize("victim", ["supervisor", "controller", "front"])
def test_what_was_acknowledged_is_served_after_a_kill_at_any_moment(home: Path, victim: str) -> None:
    acknowledged = False
    for turn in range(KILLS):
        with RunningServer(home=home, flags=EXPLICIT) as server:
            assert ready(server) == deployed(home)
            verb = "unload" if acknowledged else "load"
            said: list[int] = []

            def act(server: RunningServer = server, verb: str = verb, said: list[int] = said) -> None:
                try:
                    said.append(change(server, verb)[0])
                except (OSError, HTTPException):
                    # The connection died with the front.
                    pass

            asking = beside(act)
            # A little later each time: while it is asked, loads, is written down, is answered.
            asking.join(turn * 0.02)
            pid = {"supervisor": server.pid, "controller": server.controller_pid, "front": server.front_pid}[victim]
            os.kill(pid, signal.SIGKILL)
            asking.join(60)
            if victim == "supervisor":
                server.wait()
            if said == [200]:
                acknowledged = verb == "load"
                assert ("other" in deployed(home)) == acknowledged
            acknowledged = "other" in deployed(home)
    with RunningServer(home=home, flags=EXPLICIT) as server:
        assert (ready(server) == ["other"]) == acknowledged
    with open_store(home, read_only=True) as store:
        assert list(store.verify_events()) == []


def test_a_load_that_fails_leaves_the_answers_of_what_was_served(server: RunningServer) -> None:
    torn = base64.b64encode(MODEL[: len(MODEL) // 2]).decode()
    with Load(server.host, server.port, mlp_asks("mlp", MODEL), clients=8) as load:
        load.await_answers(16)
        status, body = change(server, "load", "mlp", json.dumps({"parameters": {"config": "{}", "file:2/model.onnx": torn}}).encode())
        load.await_answers(16)

    assert (status, load.failures) == (400, [])
    assert "model.onnx" in json.loads(body)["error"]
    assert str(server.home) not in body.decode()
    assert ready(server) == ["mlp"]
