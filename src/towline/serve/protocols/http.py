"""HTTP/1.1 as this server speaks it: uvicorn's parser and loop, with the guard it lacks, and answers given without an ASGI task.

A request is an `Exchange`. uvicorn keeps its own cycle objects in `self.cycle` and `self.pipeline`; an exchange stands in for one,
so that requests answered here and requests answered by the ASGI app keep their order on one connection.
tests/serve/test_uvicorn_attributes.py holds the attributes of the semi-private base class that this file relies on.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from towline.core.errors import TowlineError
from towline.serve.contract import HttpRequest, HttpResponse
from towline.serve.protocols import refusals
from towline.serve.protocols.exchange import Exchange, Head, learn
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.pace import Pace

log = logging.getLogger("towline.http")

# What the reading side is doing. REST: between requests.
HEAD, BODY, REST, CLOSING = "head", "body", "rest", "closing"
_MAX_PARTS = 1024
_MAX_CHUNKS = 65_536
# Of a body sent in chunks: what is no body, which is sizes, extensions and trailers.
_MAX_FRAMING_BYTES = 1 << 20
# After a refusal the client may still be sending: that is read and thrown away, so that it can read the answer.
_LINGER_S = 2.0
_LINGER_AT_MOST_S = 10.0
_BODY_GRACE_S = 5.0
_LAME_DUCK_S = 0.3
# Connections above the limit that are told so; more are cut without a word.
_MAX_TURNED_AWAY = 256
_WATCHED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"x-request-id", b"traceparent"})


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `gate` (limits, routes, clock) is set on a subclass made per server."""

    gate: ClassVar[Gate]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = HEAD
        self._since_s = self._closing_since_s = self.gate.now_s
        # What is watched for its speed: answers the client does not take, else the body it sends.
        self._pace: Pace | None = None
        # The request being read, unless it is the ASGI app's; and the one being answered, exchange or uvicorn's cycle.
        self._reading: Exchange | None = None
        self._current: Any = None
        # Bytes of the request being read that are not its body.
        self._overhead_bytes = 0
        self._hosts = self._length = 0
        # Chunks begun; -1 when the body is not sent in chunks.
        self._chunks = -1
        self._offers_upgrade = False
        self._problem: TowlineError | None = None
        self._is_parsing = self._is_advancing = False
        # The head of the last request, and the exchange that may become it.
        self._known: Head | None = None
        self._learning: Exchange | None = None

    # Bytes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.gate.connections.add(self)
        excess = len(self.connections) - self.gate.limits.max_connections
        if excess > _MAX_TURNED_AWAY:
            transport.abort()
        elif excess > 0:
            self._refuse(refusals.too_many_connections())

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.connections.discard(self)
        for exchange in (self._reading, self._current, *(waiting for waiting, _ in self.pipeline)):
            if isinstance(exchange, Exchange):
                self.gate.release(exchange)
                if exchange.cancel is not None:
                    exchange.cancel()
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
                self._since_s = self.gate.now_s
                # By the fine clock: a client may ask to wait less than the coarse one is apart.
                received_s = self.gate.clock()
                self.cycle = exchange = Exchange(  # type: ignore[assignment]
                    method=known.method, headers=known.headers, found=known.found, parts=[data[len(known.raw) :]], received_s=received_s
                )
                self._begin(exchange)
                return
        elif self._phase is CLOSING:
            self._since_s = self.gate.now_s
            return
        starts_here = self._phase is REST
        self._feed(data)
        if starts_here and self._learning is not None:
            self._known = learn(data, self._learning) or self._known
        self._learning = None

    def _feed(self, data: bytes) -> None:
        self._overhead_bytes += len(data)
        self._is_parsing = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            # It may be ignored (RFC 9110, 7.8), as clients that would rather speak HTTP/2 expect. What follows is HTTP/1.1 still.
            self._feed_rest(memoryview(data)[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse_unreadable(error)
        self._is_parsing = False
        if self.gate.is_draining:
            self._next()
        if self._phase is BODY and self._reading is not None and not self.gate.hold(self._reading):
            self._refuse(refusals.too_many_bytes())
        elif self._overhead_bytes > self.gate.limits.max_header_bytes:
            self._check_overhead()

    def _feed_rest(self, rest: memoryview) -> None:
        while self._phase is not CLOSING:
            if self._phase is BODY and self._reading is not None:
                self._read_body_anew(self._reading)
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            except httptools.HttpParserError as error:
                self._refuse_unreadable(error)

    def _read_body_anew(self, exchange: Exchange) -> None:
        """The parser takes an offer to upgrade for the end of its message, body or none. One that saw no offer reads the body."""
        self._offers_upgrade = False
        framing = b"transfer-encoding: chunked" if self._chunks >= 0 else b"content-length: %d" % self._length
        connection = b"keep-alive" if exchange.keep_alive else b"close"
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._reading = None
        self.parser.feed_data(b"POST / HTTP/1.1\r\nconnection: %b\r\n%b\r\n\r\n" % (connection, framing))
        self._reading = exchange

    def _refuse_unreadable(self, error: httptools.HttpParserError) -> None:
        if isinstance(error, httptools.HttpParserCallbackError):
            # An exception of one of our own callbacks, told apart from a fault of the client's.
            log.error("a request could not be read", exc_info=error)
            self._refuse(refusals.unreadable())
        else:
            self._refuse(refusals.not_http())

    def _check_overhead(self) -> None:
        if self._phase is not BODY:
            self._refuse(refusals.headers_too_large(self.gate.limits))
        elif self._overhead_bytes > _MAX_FRAMING_BYTES:
            self._refuse(refusals.too_finely_chunked())

    # The parser's callbacks, in the order they come

    def on_message_begin(self) -> None:
        if self._phase is CLOSING or self._phase is BODY:
            return
        self._reading = Exchange(received_s=self.gate.clock())
        self._hosts = self._length = 0
        self._chunks = -1
        self._offers_upgrade = False
        self._problem = None
        self.expect_100_continue = False
        if self._phase is REST:
            self._phase, self._since_s = HEAD, self.gate.now_s

    def on_url(self, url: bytes) -> None:
        if self._reading is not None:
            self._reading.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._reading
        # Trailers come this way too. Nothing we answer asks for one.
        if exchange is None or self._phase is BODY:
            return
        name, value = name.lower(), value.rstrip(b" \t")
        exchange.headers.append((name, value))
        if name not in _WATCHED:
            return
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self._length = int(value) if len(value) < 20 and value.isdigit() else self.gate.limits.max_request_bytes + 1
        elif name == b"transfer-encoding":
            self._chunks = 0
            if value.lower() != b"chunked":
                self._problem = refusals.wrong_transfer_encoding()
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
            if not self.expect_100_continue:
                self._problem = refusals.unknown_expectation()
        elif name == b"upgrade":
            self._offers_upgrade = True
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
            problem = refusals.body_too_large(gate.limits)
        if problem is None and self._chunks == 0 and version != "1.1":
            problem = refusals.wrong_transfer_encoding()
        if problem is not None:
            self._refuse(problem)
            return
        self._overhead_bytes = 0
        self._phase, self._since_s, self._pace = BODY, gate.now_s, None
        exchange.found = gate.routes.find(exchange.method, exchange.url)
        if exchange.found.error is not None and gate.has_fallback:
            self._hand_over(exchange)
        elif self.expect_100_continue and (self.cycle is None or self.cycle.response_complete):
            self._continue()

    def _hand_over(self, exchange: Exchange) -> None:
        """Give a request that no route of ours takes to the ASGI app, by uvicorn's own way."""
        self._reading = None
        super().on_message_begin()
        self.url = exchange.url
        self.headers.extend(exchange.headers)
        super().on_headers_complete()

    def _continue(self) -> None:
        """Tell a client that waits with its body to send it."""
        self.expect_100_continue = False
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            self._refuse(refusals.too_finely_chunked())

    def on_body(self, body: bytes) -> None:
        exchange = self._reading
        if exchange is None:
            if self._phase is not CLOSING:
                super().on_body(body)
            return
        exchange.body_bytes += len(body)
        self._overhead_bytes -= len(body)
        if exchange.body_bytes > self.gate.limits.max_request_bytes:
            self._refuse(refusals.body_too_large(self.gate.limits))
            return
        exchange.parts.append(body)
        if len(exchange.parts) > _MAX_PARTS:
            exchange.gather()

    def on_message_complete(self) -> None:
        if self._phase is CLOSING or (self._offers_upgrade and self._is_body_due()):
            return
        self._phase, self._since_s = REST, self.gate.now_s
        self._overhead_bytes = 0
        exchange, self._reading = self._reading, None
        if exchange is None:
            super().on_message_complete()
            return
        # A head is remembered when it declares a length, leaves the connection open, and tells neither an id nor a trace:
        # those change from one request to the next.
        self._learning = exchange if self._length and exchange.keep_alive and not (exchange.id or exchange.trace) else None
        self._line_up(exchange)

    def _is_body_due(self) -> bool:
        return self._reading is not None and self.parser.should_upgrade() and (self._length > 0 or self._chunks >= 0)

    # Answers, in the order of their requests

    def _line_up(self, exchange: Exchange) -> None:
        """Begin now, or when all that came before on this connection is answered."""
        before = self.cycle
        self.cycle = exchange  # type: ignore[assignment]
        # While the server drains, what else came in the same packet decides which answer is the connection's last.
        is_last_unknown = self.gate.is_draining and self._is_parsing
        if (before is None or before.response_complete) and not (self.flow.write_paused or is_last_unknown):
            self._begin(exchange)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, None))  # type: ignore[arg-type]

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        if exchange.held_bytes:
            self.gate.release(exchange)
        if exchange.response is not None:
            self._answer(exchange, exchange.response)
            return
        assert exchange.found is not None
        found, exchange.id = exchange.found, exchange.id or self.gate.new_id()
        method, body = exchange.method.decode("ascii"), exchange.take_body()
        request = HttpRequest(method, found.path, found.query, exchange.headers, body, exchange.received_s, exchange.id)
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
        keep_alive = exchange.keep_alive and (not self.gate.is_draining or self._has_more())
        head = self.gate.head(response, exchange.id, exchange.trace, keep_alive=keep_alive)
        self.transport.write(head if exchange.method == b"HEAD" else head + response.body)
        if keep_alive:
            self.on_response_complete()
        else:
            self._close_gently()

    def on_response_complete(self) -> None:
        """Also called by uvicorn's cycles. Arms no timer per response, as uvicorn would: the gate sweeps all connections."""
        self.server_state.total_requests += 1
        self._since_s = self.gate.now_s
        if self.pipeline or self.flow.read_paused:
            self._next()
        elif self._phase is BODY and self.expect_100_continue:
            self._continue()

    def _next(self) -> None:
        """Go on with what is lined up, unless the client does not read the answers it has."""
        if self._is_advancing:
            # An answer given at once comes back here: the loop below goes on, so that a long line needs no deep stack.
            return
        self._is_advancing = True
        try:
            while self.pipeline and (self._current is None or self._current.response_complete) and not self._is_stuck():
                cycle: Any
                cycle, app = self.pipeline.pop()
                if isinstance(cycle, Exchange):
                    self._begin(cycle)
                else:
                    self._start_asgi_task(cycle, app)
        finally:
            self._is_advancing = False
        if not self.pipeline and not self._is_stuck():
            self.flow.resume_reading()

    def _is_stuck(self) -> bool:
        return self.flow.write_paused or self.transport.is_closing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pace = None

    def resume_writing(self) -> None:
        super().resume_writing()
        self._pace, self._since_s = None, self.gate.now_s
        if self._current is None or self._current.response_complete:
            self._next()

    # Refusals and the end

    def _refuse(self, problem: TowlineError) -> None:
        """Answer with an error in its turn, then close. Nothing more is parsed."""
        if self._phase is CLOSING or self.transport.is_closing():
            return
        exchange, self._reading = self._reading or Exchange(), None
        self._phase, self._since_s = CLOSING, self.gate.now_s
        self.gate.release(exchange)
        exchange.parts = []
        exchange.keep_alive = False
        exchange.id = exchange.id or self.gate.new_id()
        exchange.response = refusals.response_to(problem, exchange.id)
        self._line_up(exchange)

    def _close_gently(self) -> None:
        """After a refusal end our side only, and throw away what the client still sends, so that it can read the answer."""
        if self._phase is CLOSING and self.transport.can_write_eof():
            self._since_s = self._closing_since_s = self.gate.now_s
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()

    def _has_more(self) -> bool:
        """Asked while the server drains: whether more of this client's requests are here, so that the connection cannot end yet."""
        return bool(self.pipeline) or self._phase is not REST

    def shutdown(self) -> None:
        """uvicorn calls this when the server drains. An idle client may be sending just now: it gets a moment, and its answer."""
        self.gate.is_draining = True
        if self._current is not None and not self._current.response_complete:
            self._current.keep_alive = self._current.keep_alive and isinstance(self._current, Exchange)
        else:
            self.loop.call_later(_LAME_DUCK_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        is_answered = self._current is None or self._current.response_complete
        is_between = self._phase is REST or (self._phase is HEAD and self._reading is None)
        if is_answered and is_between and not self.pipeline and not self.transport.is_closing():
            self.transport.close()

    def has_stalled(self, now_s: float) -> bool:
        """Asked once a second: whether the client sits in what it is doing for longer than it may."""
        limits, waited_s = self.gate.limits, now_s - self._since_s
        is_answered = self._current is None or self._current.response_complete
        if self.flow.write_paused:
            return self._is_too_slow(-self.transport.get_write_buffer_size(), now_s, limits.write_timeout_s)
        if self._phase is CLOSING:
            return is_answered and (waited_s > _LINGER_S or now_s - self._closing_since_s > _LINGER_AT_MOST_S)
        if self._phase is REST:
            return is_answered and waited_s > limits.idle_timeout_s
        if self.flow.read_paused:
            # It is we who do not read.
            self._since_s, self._pace = now_s, None
            return False
        if self._phase is HEAD:
            return waited_s > limits.header_timeout_s
        return self._reading is not None and self._is_too_slow(self._reading.body_bytes, now_s, _BODY_GRACE_S)

    def _is_too_slow(self, done_bytes: int, now_s: float, grace_s: float) -> bool:
        if self._pace is None:
            self._pace = Pace(now_s, done_bytes)
            return False
        return self._pace.is_too_slow(done_bytes, now_s, min_bytes_per_s=self.gate.limits.min_body_bytes_per_s, grace_s=grace_s)

    def evict(self) -> None:
        """Called by the gate's sweep when `has_stalled`."""
        if self._phase in (HEAD, BODY) and self._reading is not None and not self.flow.write_paused:
            self._refuse(refusals.request_timeout())
        else:
            self.transport.abort()


def protocol_for(gate: Gate) -> type[GuardedProtocol]:
    """The class uvicorn is given as `http=`."""
    return type("ServerProtocol", (GuardedProtocol,), {"gate": gate})
