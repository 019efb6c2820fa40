"""RunningServer: it starts, tells its processes apart, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from towline.testing import tiny_models
from towline.testing.server import RunningServer


def test_a_running_server_answers_names_its_processes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with RunningServer(tiny_models.write(tmp_path, tiny_models.identity(), "m.onnx")) as server:
        assert server.post("/v1/models/m:predict", b'{"instances": [[1, 2]]}') == (200, b'{"predictions":[[1.0,2.0]]}')
        pids = server.pids()
        assert [len(pids[role]) for role in ("supervisor", "front", "controller", "fork-server")] == [1, 1, 1, 1]
        assert server.worker_pid("m") in pids["worker"]
        killed = server.worker_pid("m")
        os.kill(killed, signal.SIGKILL)
        server.wait_until(lambda: server.worker_pid("m") != killed)
        assert "Serving m:1 on" in server.log()
        home = server.home

    # They end with their supervisor, and the last of them perhaps a moment later.
    until_s = time.monotonic() + 60
    while (left := [pid for role in pids.values() for pid in role if Path(f"/proc/{pid}").exists()]) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert left == []
    assert not home.exists()


def test_a_server_that_cannot_start_tells_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit code 2[\s\S]*missing\.onnx"), RunningServer(tmp_path / "missing.onnx"):
        pass
