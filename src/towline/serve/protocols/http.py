"""HTTP/1.1 as this server speaks it: uvicorn's parser and loop, with the guard it lacks, and answers given without an ASGI task.

A request is an `Exchange`. uvicorn keeps its own cycle objects in `self.cycle` and `self.pipeline`; an exchange stands in for one,
so that requests answered here and requests answered by the ASGI app keep their order on one connection.
tests/serve/test_uvicorn_attributes.py holds the attributes of the semi-private base class that this file relies on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from towline.core.errors import Kind, TowlineError
from towline.serve.contract import HttpRequest, HttpResponse
from towline.serve.protocols.gate import Gate, body_too_large, headers_too_large, refusal
from towline.serve.protocols.table import Found

log = logging.getLogger("towline.http")

# What the reading side is doing. REST: between requests.
HEAD, BODY, REST, CLOSING = "head", "body", "rest", "closing"
_MAX_PARTS = 1024
# After a refusal the client may still be sending: so much is read and thrown away, so long, so that it can read the answer.
_DISCARD_BYTES = 1 << 20
_LINGER_S = 2.0
_BODY_GRACE_S = 5.0
_LAME_DUCK_S = 0.3
_WATCHED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"x-request-id", b"traceparent"})


class _NoEvent:
    def set(self) -> None:
        """uvicorn sets a cycle's event when the connection is lost; an exchange learns of that by `cancel`."""


class Exchange(msgspec.Struct, eq=False):
    """One request and its answer. `response_complete`, `keep_alive`, `disconnected` and `message_event` are uvicorn's of a cycle."""

    url: bytes = b""
    method: bytes = b""
    headers: list[tuple[bytes, bytes]] = []
    # Repeated by the answer: the request's id, the client's or ours, and the line of its trace context.
    id: bytes = b""
    trace: bytes = b""
    parts: list[bytes] = []
    body_bytes: int = 0
    found: Found | None = None
    # Known before the request is complete when it is refused.
    response: HttpResponse | None = None
    cancel: Callable[[], None] | None = None
    keep_alive: bool = True
    response_complete: bool = False
    disconnected: bool = False
    message_event: ClassVar[_NoEvent] = _NoEvent()


class Head(msgspec.Struct, frozen=True, gc=False):
    """The bytes of a request's head that passed every check, and what they came to. The same bytes again need no parser.

    `size` is that of head and body together.
    """

    raw: bytes
    size: int
    method: bytes
    headers: list[tuple[bytes, bytes]]
    found: Found


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `gate` (limits, routes, clock) is set on a subclass made per server."""

    gate: ClassVar[Gate]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = HEAD
        self._since_s = self.gate.now_s
        self._write_stalled_s: float | None = None
        # The request being read, unless it is the ASGI app's; and the one being answered, exchange or uvicorn's cycle.
        self._reading: Exchange | None = None
        self._current: Any = None
        self._head_bytes = 0
        self._hosts = 0
        self._length = 0
        self._problem: TowlineError | None = None
        self._discarded = 0
        # The head of the last request, and the exchange that may become it.
        self._known: Head | None = None
        self._learning: Exchange | None = None

    # Bytes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.gate.connections.add(self)
        if len(self.connections) > self.gate.limits.max_connections:
            self._refuse(TowlineError("Too many connections.", code="TOO_MANY_CONNECTIONS", kind=Kind.UNAVAILABLE, retry_after_s=1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.connections.discard(self)
        for cycle in (self._current, *(waiting for waiting, _ in self.pipeline)):
            if isinstance(cycle, Exchange) and cycle.cancel is not None:
                cycle.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase is REST:
            known = self._known
            if (
                known is not None
                and len(data) == known.size
                and data.startswith(known.raw)
                and self.cycle.response_complete
                and not self.flow.write_paused
            ):
                self.cycle = exchange = Exchange(  # type: ignore[assignment]
                    method=known.method, headers=known.headers, found=known.found, parts=[data[len(known.raw) :]]
                )
                self._since_s = self.gate.now_s
                self._begin(exchange)
                return
        elif self._phase is CLOSING:
            self._discarded += len(data)
            if self._discarded > _DISCARD_BYTES:
                self.transport.abort()
            return
        starts_here = self._phase is REST
        self._feed(data)
        if starts_here and self._learning is not None:
            self._learn(data, self._learning)
        self._learning = None

    def _learn(self, data: bytes, exchange: Exchange) -> None:
        """Remember the head of a request that came whole, and alone, in `data`."""
        raw = data[: len(data) - self._length]
        if exchange.found is not None and raw.endswith(b"\r\n\r\n") and raw.count(b"\r\n\r\n") == 1:
            self._known = Head(raw, len(data), exchange.method, exchange.headers, exchange.found)

    def _feed(self, data: bytes) -> None:
        if self._phase is not BODY:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(TowlineError("This server does not switch protocols.", code="BAD_REQUEST", kind=Kind.INVALID))
        except httptools.HttpParserCallbackError as error:
            # An exception of one of our own callbacks, told apart from a fault of the client's.
            log.error("a request could not be read", exc_info=error)
            self._refuse(TowlineError("The request could not be read."))
        except httptools.HttpParserError:
            self._refuse(TowlineError("This is not an HTTP/1.1 request.", code="BAD_REQUEST", kind=Kind.INVALID))
        else:
            if self._phase is HEAD and self._head_bytes > self.gate.limits.max_header_bytes:
                self._refuse(headers_too_large(self.gate.limits))

    # The parser's callbacks, in the order they come

    def on_message_begin(self) -> None:
        self._reading = Exchange()
        self._hosts = self._length = 0
        self._problem = None
        self.expect_100_continue = False
        if self._phase is REST:
            self._phase, self._since_s = HEAD, self.gate.now_s

    def on_url(self, url: bytes) -> None:
        if self._reading is not None:
            self._reading.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._reading
        if exchange is None:
            return
        name = name.lower()
        exchange.headers.append((name, value))
        if name not in _WATCHED:
            return
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self._length = int(value) if len(value) < 20 and value.isdigit() else self.gate.limits.max_request_bytes + 1
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            self._problem = TowlineError("The only transfer-encoding taken is 'chunked'.", code="BAD_REQUEST", kind=Kind.INVALID)
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"traceparent":
            exchange.trace = self.gate.trace_line(value)
        elif self.gate.is_request_id(value):
            exchange.id = value

    def on_headers_complete(self) -> None:
        exchange, gate = self._reading, self.gate
        if exchange is None:
            return
        version = self.parser.get_http_version()
        exchange.method = self.parser.get_method()
        exchange.keep_alive = version == "1.1" and self.parser.should_keep_alive()
        problem = self._problem or gate.check_head(exchange.headers, exchange.url, self._hosts, version)
        if problem is None and self._length > gate.limits.max_request_bytes:
            problem = body_too_large(gate.limits)
        if problem is not None:
            self._refuse(problem)
            return
        self._head_bytes = 0
        self._phase, self._since_s = BODY, gate.now_s
        exchange.found = gate.routes.find(exchange.method, exchange.url)
        if exchange.found.error is not None and gate.has_fallback:
            self._hand_over(exchange)
        elif self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hand_over(self, exchange: Exchange) -> None:
        """Give a request that no route of ours takes to the ASGI app, by uvicorn's own way."""
        self._reading = None
        super().on_message_begin()
        self.url = exchange.url
        self.headers.extend(exchange.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        exchange = self._reading
        if exchange is None:
            if self._phase is not CLOSING:
                super().on_body(body)
            return
        exchange.body_bytes += len(body)
        if exchange.body_bytes > self.gate.limits.max_request_bytes:
            self._refuse(body_too_large(self.gate.limits))
            return
        exchange.parts.append(body)
        if len(exchange.parts) > _MAX_PARTS:
            exchange.parts = [b"".join(exchange.parts)]

    def on_message_complete(self) -> None:
        if self._phase is CLOSING:
            return
        self._phase, self._since_s = REST, self.gate.now_s
        exchange, self._reading = self._reading, None
        if exchange is None:
            super().on_message_complete()
            return
        # Only a request with a declared length, an open connection and no half-way answer is remembered by its head.
        is_plain = exchange.keep_alive and exchange.body_bytes == self._length and not self.expect_100_continue
        # Nor one that tells an id or a trace: those change from one request to the next.
        self._learning = exchange if is_plain and self._length and not exchange.id and not exchange.trace else None
        self._line_up(exchange)

    # Answers, in the order of their requests

    def _line_up(self, exchange: Exchange) -> None:
        """Begin now, or when all that came before on this connection is answered."""
        before = self.cycle
        self.cycle = exchange  # type: ignore[assignment]
        if (before is None or before.response_complete) and not self.flow.write_paused:
            self._begin(exchange)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, None))  # type: ignore[arg-type]

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        if exchange.response is not None or exchange.found is None:
            self._answer(exchange, exchange.response or refusal(TowlineError("The request could not be read.")))
            return
        parts, exchange.parts = exchange.parts, []
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        found = exchange.found
        exchange.id = exchange.id or self.gate.new_id()
        request = HttpRequest(exchange.method.decode("ascii"), found.path, found.query, exchange.headers, body, self._since_s, exchange.id)
        exchange.cancel = self.gate.handle(found, request, partial(self._answer, exchange))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def _answer(self, exchange: Exchange, response: HttpResponse) -> None:
        if exchange.response_complete:
            return
        exchange.response_complete = True
        exchange.cancel = None
        if self.transport.is_closing():
            return
        keep_alive = exchange.keep_alive and not self.gate.is_draining
        head = self.gate.head(response, exchange.id or self.gate.new_id(), exchange.trace, keep_alive=keep_alive)
        self.transport.write(head if exchange.method == b"HEAD" else head + response.body)
        if keep_alive:
            self.on_response_complete()
        else:
            self._close_gently()

    def on_response_complete(self) -> None:
        """Also called by uvicorn's cycles. Arms no timer per response, as uvicorn would: the gate sweeps all connections."""
        self.server_state.total_requests += 1
        self._since_s = self.gate.now_s
        self._next()

    def _next(self) -> None:
        """Go on with what is lined up, unless the client does not read the answers it has."""
        if self.flow.write_paused or self.transport.is_closing():
            return
        if self.pipeline:
            cycle: Any
            cycle, app = self.pipeline.pop()
            if isinstance(cycle, Exchange):
                self._begin(cycle)
            else:
                self._start_asgi_task(cycle, app)
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_stalled_s = self.gate.now_s

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_stalled_s = None
        if self._current is None or self._current.response_complete:
            self._next()

    # Refusals and the end

    def _refuse(self, problem: TowlineError) -> None:
        """Answer with an error in its turn, then close. Nothing more is parsed."""
        if self._phase is CLOSING or self.transport.is_closing():
            return
        exchange, self._reading = self._reading or Exchange(), None
        self._phase, self._since_s = CLOSING, self.gate.now_s
        exchange.parts = []
        exchange.keep_alive = False
        exchange.response = refusal(problem)
        self._line_up(exchange)

    def _close_gently(self) -> None:
        """After a refusal end our side only, and throw away what the client still sends, so that it can read the answer."""
        if self._phase is CLOSING and self.transport.can_write_eof():
            self._since_s = self.gate.now_s
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """uvicorn calls this when the server drains. An idle client may be sending just now: it gets a moment, and its answer."""
        if self._current is not None and not self._current.response_complete:
            self._current.keep_alive = False
        elif self._phase is REST or not self._head_bytes:
            self.loop.call_later(_LAME_DUCK_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        is_answered = self._current is None or self._current.response_complete
        if is_answered and self._phase in (REST, HEAD) and not self._head_bytes and not self.transport.is_closing():
            self.transport.close()

    def is_late(self, now_s: float) -> bool:
        limits, waited_s = self.gate.limits, now_s - self._since_s
        if self._write_stalled_s is not None and now_s - self._write_stalled_s > limits.write_timeout_s:
            return True
        if self._phase is CLOSING:
            return waited_s > _LINGER_S and (self._current is None or self._current.response_complete)
        if self._phase is HEAD:
            return waited_s > limits.header_timeout_s
        if self._phase is BODY:
            received = self._reading.body_bytes if self._reading is not None else 0
            return self._reading is not None and waited_s > _BODY_GRACE_S + received / max(limits.min_body_bytes_per_s, 1)
        return waited_s > limits.idle_timeout_s and (self._current is None or self._current.response_complete)

    def late(self) -> None:
        """Called by the gate's sweep when `is_late`."""
        if self._phase in (HEAD, BODY) and self._reading is not None and self._write_stalled_s is None:
            self._refuse(TowlineError("The request did not arrive in time.", code="REQUEST_TIMEOUT", kind=Kind.DEADLINE))
        else:
            self.transport.abort()


def protocol_for(gate: Gate) -> type[GuardedProtocol]:
    """The class uvicorn is given as `http=`."""
    return type("ServerProtocol", (GuardedProtocol,), {"gate": gate})
