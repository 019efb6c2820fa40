"""What people at a terminal do: Ctrl-C, a second server on the same home, a pipe that is closed, no isolation."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ended import await_end
from known_models import mlp_asks, v2
from load import Ask, Load

from towline.testing import tiny_models
from towline.testing.server import RunningServer

MODEL = tiny_models.mlp()
ASK = mlp_asks("mlp", MODEL)[0]
TOWLINE = [sys.executable, "-c", "import sys; from towline.cli.main import main; sys.exit(main())"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.write(tmp_path, MODEL, "mlp.onnx")


@pytest.fixture
def server(model: Path) -> Iterator[RunningServer]:
    with RunningServer(model) as running:
        yield running


def everyone(server: RunningServer) -> list[int]:
    return [pid for pids in server.pids().values() for pid in pids]


def test_ctrl_c_reaches_everyone_of_the_terminal_and_only_the_supervisor_decides(server: RunningServer) -> None:
    pids = everyone(server)
    with Load(server.host, server.port, [ASK], clients=8, may_break=True) as load:
        load.await_answers(16)
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait() == 130
        load.stop()

    # Refused connects come after the end; what was answered was answered right.
    assert load.failures == []
    await_end(pids)
    assert "Traceback" not in server.log()


def test_a_server_that_is_stopped_while_it_starts_says_that_and_no_more(model: Path) -> None:
    with RunningServer(model, await_ready=False) as server:
        # From here on it may hold its clients, load its model, or open its second port.
        assert server.front_pid
        assert server.stop() == 0
        assert "Traceback" not in server.log()


def test_a_second_ctrl_c_does_not_wait_for_what_is_in_flight(tmp_path: Path) -> None:
    loop = tiny_models.write(tmp_path, tiny_models.counted_loop(), "loop.onnx")
    endless = Ask("/v2/models/loop/infer", v2({"rounds": ("INT64", [1], [tiny_models.INT64_MAX])}), lambda status, body: "")
    patient = {"request_timeout_s": 3600, "drain_timeout_s": 3600}
    with RunningServer(loop, settings=patient) as server, socket.create_connection((server.host, server.port)) as waiting:
        waiting.sendall(endless.raw)
        # Another connection's answer comes after that was read.
        assert server.get("/livez")[0] == 200
        server.send_signal(signal.SIGINT)
        server.wait_until(lambda: "Stopping" in server.log())
        server.send_signal(signal.SIGINT)

        assert server.wait() == 130


def test_a_second_server_on_the_same_home_ends_with_2_and_the_pid_of_the_first(server: RunningServer, model: Path) -> None:
    command = [*TOWLINE, "serve", str(model), "--home", str(server.home), "--port", "0", "--grpc-port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert second.returncode == 2
    assert f"pid {server.pid}" in second.stderr
    assert "started again" not in second.stderr
    assert ASK.check(*server.post(ASK.path, ASK.body)) == ""


def test_it_goes_on_when_whoever_read_its_log_has_gone(model: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    command = [*TOWLINE, "serve", str(model), "--home", str(tmp_path / "home"), "--port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, stdout=writing, stderr=writing, start_new_session=True)
    os.close(writing)
    os.close(reading)
    try:
        state = tmp_path / "home" / "run" / f"server-{process.pid}.json"
        until = time.monotonic() + 60
        while not (state.exists() and any(one["state"] == "ready" for one in json.loads(state.read_bytes())["models"])):
            assert process.poll() is None, "it ended"
            assert time.monotonic() < until
            time.sleep(0.02)
        port = int(json.loads(state.read_bytes())["url"].rsplit(":", 1)[1])
        with Load("127.0.0.1", port, [ASK], clients=4) as load:
            load.await_answers(8)
            os.kill(json.loads(state.read_bytes())["models"][0]["pid"], signal.SIGKILL)
            load.await_answers(8)
        assert load.failures == []
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_without_isolation_the_model_runs_in_the_front_and_answers_the_same(model: Path) -> None:
    with RunningServer(model, flags=("--isolation", "none")) as server:
        with Load(server.host, server.port, mlp_asks("mlp", MODEL), clients=16) as load:
            load.await_answers(200)
        assert [one["pid"] for one in server.state()["models"]] == [None]
        assert server.stop() == 0

    assert load.failures == []
