"""What a worker inherits or is given: two sockets, two pieces of memory, ends of two pipes, the log. No listening socket, no store."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from towline.testing import tiny_models
from towline.testing.server import RunningServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tiny_models.write(tmp_path_factory.mktemp("models"), tiny_models.mlp(), "mlp.onnx")) as running:
        yield running


def links(pid: int) -> list[str]:
    """Of what a process has open. What it closes meanwhile is left out."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return found


def listening(server: RunningServer) -> str:
    """The link by which a process would hold the server's socket."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == server.port:
            return f"socket:[{fields[9]}]"
    raise AssertionError("nobody listens")


@pytest.mark.parametrize("role", ["worker", "fork-server"])
def test_neither_the_listening_socket_nor_the_store_reaches_a_process_that_runs_models(server: RunningServer, role: str) -> None:
    socket = listening(server)
    assert socket in links(server.front_pid)

    for pid in server.pids()[role]:
        held = links(pid)
        assert socket not in held
        assert [link for link in held if str(server.home) in link and not link.endswith("server.log")] == []


def test_a_worker_holds_only_its_two_sockets_and_pipes_its_memory_and_the_log(server: RunningServer) -> None:
    kinds = [re.sub(r":\[\d+\]| \(deleted\)|^/.*server\.log$", "", link) for link in links(server.worker_pid("mlp"))]

    assert (kinds.count("socket"), kinds.count("pipe")) == (2, 2)
    assert set(kinds) <= {"socket", "pipe", "/dev/null", "", "/memfd:towline-inputs", "/memfd:towline-outputs"}


def test_the_front_holds_no_file_of_the_store(server: RunningServer) -> None:
    assert [link for link in links(server.front_pid) if "towline.db" in link or link.endswith(".lock")] == []
