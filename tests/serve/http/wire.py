"""The real protocol over a transport in memory: what comes in which packet, and when a handler answers, is the test's to choose."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn

from raw import Answer, parse_head
from towline.core.config import Settings
from towline.serve.contract import HttpRequest, HttpResponse, Reply, Route
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.http import GuardedProtocol, protocol_for
from towline.serve.protocols.table import RouteTable


class Transport(asyncio.Transport):
    """Keeps what is written; `is_full` makes the protocol wait as a slow reader does."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unwritten_bytes = 0
        self.is_reading = True
        self.is_over = self.is_at_end = False
        # A real transport lets go of its protocol when the connection is lost; this one never holds the connection's own.
        self._protocol: Callable[[], asyncio.BaseProtocol | None] = lambda: None

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol = self._protocol()
        assert protocol is not None
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = weakref.ref(protocol) if isinstance(protocol, GuardedProtocol) else lambda: protocol

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.is_at_end, "written after the end"
        assert not self.is_over, "written after the connection was closed"
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_at_end = True

    def close(self) -> None:
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_over

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_write_buffer_size(self) -> int:
        return self.unwritten_bytes


class Wires:
    """A server without a socket. `/echo` answers at once with method and body, `/fill` too, `/later` when `answer_next` is called."""

    def __init__(self, **settings: Any) -> None:
        self.now_s = 100.0
        self.waiting: list[tuple[HttpRequest, Reply]] = []
        self.seen: list[HttpRequest] = []
        self.cancelled = 0
        routes = [Route("GET", "/echo", self._echo), Route("POST", "/echo", self._echo), Route("POST", "/later", self._later)]
        routes.append(Route("POST", "/fill", self._echo, takes_buffer=True))
        self.gate = Gate(RouteTable(routes), Settings(**settings), clock=lambda: self.now_s, boot_id="test")
        self._config = uvicorn.Config(_no_app, http=protocol_for(self.gate), ws="none", lifespan="off", log_config=None, access_log=False)
        self._config.load()
        self._server = uvicorn.Server(self._config)
        self.loop = asyncio.new_event_loop()

    def close(self) -> None:
        self.loop.close()

    def wire(self) -> Wire:
        protocol = self._config.http_protocol_class(
            config=self._config, server_state=self._server.server_state, app_state={}, _loop=self.loop
        )
        assert isinstance(protocol, GuardedProtocol)
        return Wire(protocol, Transport())

    def pass_time(self, seconds: float) -> None:
        """Second by second, with the sweep that the front makes."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += min(1.0, until_s - self.now_s)
            self.gate.tick(self.now_s)
            self.gate.sweep()

    def answer_next(self) -> None:
        request, reply = self.waiting.pop(0)
        reply(HttpResponse(200, _shown(request)))

    def _echo(self, request: HttpRequest, params: Mapping[str, str], reply: Reply) -> None:
        self.seen.append(request)
        reply(HttpResponse(200, _shown(request)))

    def _later(self, request: HttpRequest, params: Mapping[str, str], reply: Reply) -> Callable[[], None]:
        self.seen.append(request)
        self.waiting.append((request, reply))
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1


class Wire:
    """One connection."""

    def __init__(self, protocol: GuardedProtocol, transport: Transport) -> None:
        self.protocol = protocol
        self.transport = transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def send(self, *packets: bytes) -> None:
        """As a transport does it: to whoever is told of what comes now, and no more of it than it has room for."""
        for packet in packets:
            left = packet
            while left and not self.transport.is_over:
                told = self.transport.get_protocol()
                taken = len(left)
                if isinstance(told, asyncio.BufferedProtocol):
                    room: Any = told.get_buffer(-1)
                    taken = min(len(room), taken)
                    room[:taken] = left[:taken]
                    told.buffer_updated(taken)
                else:
                    self.protocol.data_received(left)
                left = left[taken:]

    def answers(self) -> list[Answer]:
        found, left = [], self.transport.written
        while left:
            head, _, left = left.partition(b"\r\n\r\n")
            status, headers = parse_head(head)
            length = int(dict(headers).get("content-length", "0"))
            found.append(Answer(status, headers, left[:length]))
            left = left[length:]
        return found

    def bodies(self) -> list[bytes]:
        return [answer.body for answer in self.answers()]

    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers()]


def _shown(request: HttpRequest) -> bytes:
    return b"%b %b" % (request.path.encode(), request.body)


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing falls through")
