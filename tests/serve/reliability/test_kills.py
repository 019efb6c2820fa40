"""Under 64 clients every process of the server is killed; no request may fail and every answer must be right."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ended import await_end
from known_models import mlp_asks
from load import Load

from towline.testing import tiny_models
from towline.testing.server import RunningServer

KILLS = 20
MODEL = tiny_models.mlp()
ASKS = mlp_asks("mlp", MODEL)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write(tmp_path_factory.mktemp("models"), MODEL, "mlp.onnx")


@pytest.fixture(scope="module")
def server(model_file: Path) -> Iterator[RunningServer]:
    with RunningServer(model_file) as running:
        yield running


def test_no_request_fails_while_the_worker_is_killed_twenty_times(server: RunningServer) -> None:
    with Load(server.host, server.port, ASKS) as load:
        for _ in range(KILLS):
            load.await_answers(64)
            killed = server.worker_pid("mlp")
            os.kill(killed, signal.SIGKILL)
            server.wait_until(lambda killed=killed: server.worker_pid("mlp") != killed)

    assert load.failures == []
    assert load.answered >= KILLS * 64


def test_no_request_fails_while_the_fork_server_is_killed_twenty_times_and_workers_still_restart(server: RunningServer) -> None:
    with Load(server.host, server.port, ASKS) as load:
        for turn in range(KILLS):
            load.await_answers(16)
            forks, worker = server.fork_server_pid, server.worker_pid("mlp")
            os.kill(forks, signal.SIGKILL)
            if turn % 4 == 0:
                # The one that must be replaced while there is nobody to make it.
                os.kill(worker, signal.SIGKILL)
                server.wait_until(lambda worker=worker: server.worker_pid("mlp") != worker)
            server.wait_until(lambda forks=forks: forks not in server.pids()["fork-server"] and server.fork_server_pid > 0)

    assert load.failures == []


def test_a_killed_front_is_back_on_the_same_socket_and_no_client_is_refused_meanwhile(server: RunningServer) -> None:
    port, front = server.port, server.front_pid
    with Load(server.host, server.port, ASKS, clients=16, may_break=True) as load:
        load.await_answers(32)
        os.kill(front, signal.SIGKILL)
        # Connects meanwhile are queued by the kernel, not refused: the supervisor holds the socket.
        assert server.get("/livez")[0] == 200
        server.wait_until(server.is_ready)
        load.await_answers(64)

    assert load.failures == []
    assert 1 <= load.breaks <= 2 * 16
    assert (server.port, server.front_pid != front) == (port, True)


def test_answers_go_on_without_a_controller_and_the_next_one_takes_over(server: RunningServer, model_file: Path) -> None:
    # Long since imported: the successor must not need it.
    model_file.unlink()
    with Load(server.host, server.port, ASKS, clients=16) as load:
        killed = server.controller_pid
        os.kill(killed, signal.SIGSTOP)
        load.await_answers(200)
        os.kill(killed, signal.SIGKILL)
        server.wait_until(lambda: server.controller_pid != killed)
        server.wait_until(lambda: [model["state"] for model in server.state()["models"]] == ["ready"])
        load.await_answers(200)

    assert load.failures == []


def test_nothing_outlives_the_supervisor_not_even_what_is_stopped(tmp_path: Path) -> None:
    with RunningServer(tiny_models.write(tmp_path, MODEL, "mlp.onnx")) as server:
        others = [pid for role, pids in server.pids().items() if role != "supervisor" for pid in pids]
        for pid in (server.worker_pid("mlp"), server.fork_server_pid):
            os.kill(pid, signal.SIGSTOP)
        server.send_signal(signal.SIGKILL)
        server.wait()
        await_end(others)

    assert len(others) >= 5
