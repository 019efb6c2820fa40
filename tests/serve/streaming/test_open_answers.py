"""An answer of unknown length over HTTP: chunks in order, at the client's pace, and the next request after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import uvicorn

from towline.core.config import Settings
from towline.serve.contract import HttpRequest, HttpResponse, HttpStream, Reply, Route
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.http import GuardedProtocol, protocol_for
from towline.serve.protocols.table import RouteTable

ASK = b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_over = self.is_at_end = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.is_at_end, "written after the end"
        assert not self.is_over, "written after the connection was closed"
        self.written += data

    def taken(self) -> bytes:
        """What was written since the last look."""
        written, self.written = self.written, b""
        return written

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_at_end = True

    def close(self) -> None:
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_over

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 1


class Scene:
    """One connection; `/open` begins an answer that the test goes on with through `stream`."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.streams: list[HttpStream] = []
        self.asked_for_more = self.cancelled = 0
        self.gate = Gate(RouteTable([Route("GET", "/open", self._open)]), Settings(), clock=lambda: self.now_s, boot_id="test")
        config = uvicorn.Config(_no_app, http=protocol_for(self.gate), ws="none", lifespan="off", log_config=None, access_log=False)
        config.load()
        self.loop = asyncio.new_event_loop()
        server = uvicorn.Server(config)
        protocol = config.http_protocol_class(config=config, server_state=server.server_state, app_state={}, _loop=self.loop)
        assert isinstance(protocol, GuardedProtocol)
        self.protocol, self.transport = protocol, Transport()
        protocol.connection_made(self.transport)

    def _open(self, request: HttpRequest, params: Mapping[str, str], reply: Reply) -> Callable[[], None]:
        reply(HttpResponse(200, content_type=b"text/event-stream", begin=self.streams.append))
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1

    def write(self, raw: bytes) -> None:
        self.streams[-1].write(raw, self._more)

    def _more(self) -> None:
        self.asked_for_more += 1


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.loop.close()


def test_the_head_goes_at_once_and_each_part_is_a_chunk(scene: Scene) -> None:
    scene.protocol.data_received(ASK)
    head = scene.transport.taken()
    scene.write(b"data: 1\n\n")
    first = scene.transport.taken()
    scene.write(b"")
    assert scene.transport.taken() == b""
    scene.streams[0].end()

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\ntransfer-encoding: chunked\r\n" in head
    assert b"\r\ncontent-type: text/event-stream\r\n" in head
    assert b"content-length" not in head
    assert first == b"9\r\ndata: 1\n\n\r\n"
    assert scene.transport.taken() == b"0\r\n\r\n"
    assert scene.asked_for_more == 2
    assert not scene.transport.is_over


def test_the_connection_serves_the_next_request_when_the_answer_is_complete(scene: Scene) -> None:
    scene.protocol.data_received(ASK + ASK)
    assert len(scene.streams) == 1
    scene.streams[0].end()
    assert len(scene.streams) == 2
    scene.streams[1].end()
    # What comes too late for its answer goes nowhere, least of all into the next one.
    before = scene.transport.taken()
    scene.streams[0].write(b"late", scene._more)

    assert before.count(b"HTTP/1.1 200 OK") == 2
    assert (scene.transport.taken(), scene.asked_for_more) == (b"", 0)


def test_a_client_that_does_not_read_is_sent_no_more_until_it_does(scene: Scene) -> None:
    scene.protocol.data_received(ASK)
    scene.protocol.pause_writing()
    scene.write(b"x")
    assert scene.asked_for_more == 0
    scene.protocol.resume_writing()

    assert scene.asked_for_more == 1


def test_a_client_of_http_1_0_gets_plain_bytes_and_the_end_of_the_connection(scene: Scene) -> None:
    scene.protocol.data_received(b"GET /open HTTP/1.0\r\nHost: localhost\r\n\r\n")
    head = scene.transport.taken()
    scene.write(b"data: 1\n\n")
    body = scene.transport.taken()
    scene.streams[0].end()

    assert b"\r\nconnection: close\r\n" in head
    assert b"transfer-encoding" not in head
    assert body == b"data: 1\n\n"
    assert scene.transport.is_over


def test_a_client_that_goes_cancels_the_work_and_is_written_nothing(scene: Scene) -> None:
    scene.protocol.data_received(ASK)
    stream = scene.streams[0]
    scene.transport.taken()
    scene.protocol.connection_lost(None)
    stream.write(b"x", scene._more)
    stream.end()

    assert (scene.cancelled, scene.transport.taken(), scene.asked_for_more) == (1, b"", 0)


def test_while_the_server_drains_an_open_answer_is_completed_and_its_connection_ends(scene: Scene) -> None:
    scene.protocol.data_received(ASK)
    scene.gate.is_draining = True
    scene.write(b"x")
    scene.streams[0].end()

    assert scene.transport.taken().endswith(b"1\r\nx\r\n0\r\n\r\n")
    assert scene.transport.is_over


def test_a_client_that_takes_nothing_of_an_open_answer_is_cut(scene: Scene) -> None:
    scene.protocol.data_received(ASK)
    scene.protocol.pause_writing()
    for _ in range(60):
        scene.now_s += 1
        scene.gate.tick(scene.now_s)
        scene.gate.sweep()

    assert scene.transport.is_over
