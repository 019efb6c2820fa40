"""The decoder beside a whole server: it comes with the first large body, ends with its front, and a drain waits for what it reads."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
from ended import await_end

from towline.testing import tiny_models
from towline.testing.server import RunningServer

PATH = "/v1/models/m:predict"
LARGE = b" " * (4 << 20) + b'{"instances":[[1,2]]}'
ANSWER = b'{"predictions":[[1.0,2.0]]}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    model = tiny_models.write(tmp_path_factory.mktemp("models"), tiny_models.identity(), "m.onnx")
    with RunningServer(model, settings={"drain_timeout_s": 600}) as running:
        yield running


def decoders(server: RunningServer) -> list[int]:
    """As the server's own accounts have them."""
    lines = server.get("/metrics")[1].decode().splitlines()
    mine = [line for line in lines if line.startswith("towline_process_resident_memory_bytes{") and 'role="decoder"' in line]
    return [int(line.partition('pid="')[2].partition('"')[0]) for line in mine]


def test_the_first_large_body_starts_it_the_next_finds_it_and_small_ones_need_none(server: RunningServer) -> None:
    assert server.post(PATH, LARGE[-21:]) == (200, ANSWER)
    assert decoders(server) == []
    assert server.post(PATH, LARGE) == (200, ANSWER)
    server.wait_until(lambda: len(decoders(server)) == 1)
    (pid,) = decoders(server)
    assert server.post(PATH, LARGE) == (200, ANSWER)
    assert decoders(server) == [pid]


def test_it_ends_with_its_front_and_the_next_front_has_its_own(server: RunningServer) -> None:
    (before,) = decoders(server)
    os.kill(server.front_pid, signal.SIGKILL)
    await_end([before])
    server.wait_until(server.is_ready)
    assert server.post(PATH, LARGE) == (200, ANSWER)


def test_a_body_that_is_read_while_the_server_ends_is_answered_and_nothing_is_left(server: RunningServer) -> None:
    server.wait_until(lambda: len(decoders(server)) == 1)
    (pid,) = decoders(server)
    os.kill(pid, signal.SIGSTOP)
    with socket.create_connection((server.host, server.port), timeout=60) as client:
        client.sendall(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (PATH.encode(), len(LARGE)) + LARGE)
        # It was received when another one is answered that came later.
        assert server.post(PATH, LARGE[-21:]) == (200, ANSWER)
        server.send_signal(signal.SIGTERM)
        server.wait_until(lambda: not accepts(server))
        os.kill(pid, signal.SIGCONT)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(ANSWER)
    assert server.wait() == 0
    await_end([pid])


def accepts(server: RunningServer) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=1).close()
    except OSError:
        return False
    return True
