"""One connection of HTTP/1.1: answers in the order of their requests, given without an ASGI task, and what ends a connection.

A request is an `Exchange`. uvicorn keeps its own cycle objects in `self.cycle` and `self.pipeline`; an exchange stands in for one,
so that requests answered here and requests answered by the ASGI app keep their order on one connection.
tests/serve/test_uvicorn_attributes.py holds the attributes of the semi-private base class that this file relies on.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from towline.core.errors import TowlineError
from towline.serve.contract import HttpResponse
from towline.serve.decoder.choice import MAX_OWN_BYTES
from towline.serve.protocols import refusals
from towline.serve.protocols.chunks import OpenEnd
from towline.serve.protocols.exchange import Exchange, Head, learn
from towline.serve.protocols.filling import BodyFiller
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.pace import Pace
from towline.serve.protocols.reader import BODY, CLOSING, HEAD, REST, RequestReader

# After a refusal the client may still be sending: that is read and thrown away, so that it can read the answer.
_LINGER_S = 2.0
_LINGER_AT_MOST_S = 10.0
_BODY_GRACE_S = 5.0
_LAME_DUCK_S = 0.3
# Connections above the limit that are told so; more are cut without a word.
_MAX_TURNED_AWAY = 256


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `gate` (limits, routes, clock) is set on a subclass made per server."""

    gate: ClassVar[Gate]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reader = RequestReader(self.gate, self)
        self.parser = self._reader.parser
        self._closing_since_s = self.gate.now_s
        # What is watched for its speed: answers the client does not take, else the body it sends, which is that exchange's.
        self._pace: Pace | None = None
        self._paced: Exchange | None = None
        # What is being answered, exchange or uvicorn's cycle.
        self._current: Any = None
        self._is_advancing = self._owes_continue = False
        # The head of the last request. The same bytes again need no parser.
        self._known: Head | None = None

    # Bytes in

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.gate.connections.add(self)
        is_welcome = self.gate.welcome(self._peer)
        excess = len(self.connections) - self.gate.limits.max_connections
        if excess > _MAX_TURNED_AWAY:
            transport.abort()
        elif excess > 0 or not is_welcome:
            self.refuse(refusals.too_many_connections())

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.connections.discard(self)
        self.gate.leave(self._peer)
        for exchange in (self._current, *(waiting for waiting, _ in self.pipeline)):
            if isinstance(exchange, Exchange):
                self.gate.release(exchange)
                if exchange.open_end is not None:
                    exchange.open_end.cut()
                if exchange.cancel is not None:
                    exchange.cancel()
        self._reader.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        was_at_rest = reader.phase is REST
        if was_at_rest:
            known = self._known
            if (
                known is not None
                and len(data) == known.size
                and data.startswith(known.raw)
                and self.cycle.response_complete
                and not self.flow.write_paused
            ):
                gate, found = self.gate, known.found
                reader.since_s = gate.now_s
                exchange = Exchange(
                    known.method,
                    found.path,
                    found.query,
                    known.headers,
                    data[known.raw_size :],
                    # By the fine clock: a client may ask to wait less than the coarse one is apart.
                    gate.clock(),
                    gate.new_id(),
                    known.is_plain,
                    self.client,
                )
                self.cycle = self._current = exchange  # type: ignore[assignment]
                reply = partial(self._answer, exchange)
                try:
                    # As Gate.handle does, of a head that led to a handler.
                    exchange.cancel = known.handler(exchange, found.params, reply)
                except Exception as error:
                    gate.answer_failure(error, exchange, reply)
                return
        elif reader.phase is CLOSING:
            reader.since_s = self.gate.now_s
            return
        reader.feed(data)
        if reader.phase is BODY and reader.exchange is not None and reader.exchange.room is not None:
            self._fill(reader.exchange)
        if self.gate.is_draining:
            self._next()
        if was_at_rest and reader.whole is not None:
            self._known = learn(data, reader.whole) or self._known

    def _fill(self, exchange: Exchange) -> None:
        """Have the rest of a large body written to where it goes. While we do not read, or the connection ends with it, the parser does."""
        if not self.flow.read_paused and exchange.keep_alive and not self.transport.is_closing():
            self.transport.set_protocol(BodyFiller(self, exchange))

    def filled(self, size: int) -> None:
        """Called by the BodyFiller that stands in for us: so many bytes more of the body are there."""
        if self._reader.phase is BODY:
            self._reader.filled(size)
        if self._reader.phase is not BODY or self.flow.read_paused:
            self._take_over()
        if self.gate.is_draining:
            self._next()

    def _take_over(self) -> None:
        """Be told again of what comes, when another was."""
        if self.transport.get_protocol() is not self:
            self.transport.set_protocol(self)

    # What the reader tells

    def line_up(self, exchange: Exchange) -> None:
        """Begin now, or when all that came before on this connection is answered."""
        before = self.cycle
        self.cycle = exchange  # type: ignore[assignment]
        self._owes_continue = False
        # While the server drains, what else came in the same packet decides which answer is the connection's last.
        is_last_unknown = self.gate.is_draining and self._reader.is_parsing
        if (before is None or before.response_complete) and not (self.flow.write_paused or is_last_unknown):
            self._begin(exchange)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, None))  # type: ignore[arg-type]

    def refuse(self, problem: TowlineError) -> None:
        """Answer with an error in its turn, then close. Nothing more is parsed."""
        if self._reader.phase is CLOSING or self.transport.is_closing():
            return
        exchange = self._reader.give_up()
        self._take_over()
        exchange.id = exchange.id or self.gate.new_id()
        exchange.response = refusals.response_to(problem, exchange.id)
        self.line_up(exchange)

    def expects_continue(self) -> None:
        """Tell a client that waits with its body to send it, but not before the answers to what it sent before."""
        self._owes_continue = self.cycle is not None and not self.cycle.response_complete
        if not self._owes_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def hand_over(self, exchange: Exchange) -> None:
        """Give a request that no route of ours takes to the ASGI app, by uvicorn's own way."""
        self.parser = self._reader.parser
        self.on_message_begin()
        self.url = exchange.url
        self.headers.extend(exchange.headers)
        self.expect_100_continue = (b"expect", b"100-continue") in exchange.headers
        self.on_headers_complete()

    def pass_on(self, body: bytes | None) -> None:
        if body is None:
            self.on_message_complete()
        else:
            self.on_body(body)

    # Answers, in the order of their requests

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        if exchange.held_bytes:
            self.gate.release(exchange)
        if exchange.response is not None:
            self._answer(exchange, exchange.response)
            return
        assert exchange.found is not None
        found, exchange.id = exchange.found, exchange.id or self.gate.new_id()
        exchange.path, exchange.query = found.path, found.query
        exchange.peer = self.client
        aside = self.gate.aside
        if aside is not None and (exchange.body_bytes > MAX_OWN_BYTES or exchange.is_coded) and aside.wants(exchange):
            exchange.cancel = aside.take(exchange, partial(self._answer, exchange))
            return
        exchange.join_body()
        exchange.cancel = self.gate.handle(found, exchange, partial(self._answer, exchange))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def _answer(self, exchange: Exchange, response: HttpResponse) -> None:
        if exchange.response_complete:
            return
        if response.begin is not None:
            self._open(exchange, response)
            return
        exchange.response_complete = True
        exchange.cancel = None
        # The connection remembers the exchange until the next; its body is of no more use.
        exchange.body = b""
        transport, gate = self.transport, self.gate
        if transport.is_closing():
            return
        if response.is_plain and exchange.keep_alive and not gate.is_draining and exchange.method != "HEAD":
            body = response.body
            transport.write(b"%b%d\r\nx-request-id: %b\r\n%b\r\n%b" % (gate.json_head, len(body), exchange.id, exchange.echo, body))
        elif not self._answer_at_length(exchange, response):
            self._close_gently()
            return
        # As on_response_complete does.
        self._reader.since_s = gate.now_s
        if self.pipeline or self._owes_continue or self.flow.read_paused:
            self._go_on()

    def _answer_at_length(self, exchange: Exchange, response: HttpResponse) -> bool:
        """Send an answer with all it may have. Returns whether the connection goes on."""
        transport, gate = self.transport, self.gate
        keep_alive = exchange.keep_alive and (not gate.is_draining or self._has_more())
        head = gate.head(response, exchange.id, exchange.echo, keep_alive=keep_alive)
        if exchange.method == "HEAD":
            transport.write(head)
        elif response.tail:
            transport.writelines((head + response.body, *response.tail))
        else:
            transport.write(head + response.body)
        return keep_alive

    def _open(self, exchange: Exchange, response: HttpResponse) -> None:
        """Send the head of an answer that goes on for as long as it does, and give away its open end."""
        assert response.begin is not None
        exchange.keep_alive = exchange.keep_alive and not self.gate.is_draining
        exchange.open_end = OpenEnd(_Answering(self, exchange), is_chunked=exchange.takes_chunks)
        if self.transport.is_closing():
            exchange.open_end.cut()
        else:
            self.transport.write(self.gate.open_head(response, exchange, keep_alive=exchange.keep_alive))
        response.begin(exchange.open_end)

    def finish(self, exchange: Exchange) -> None:
        """The last of an open answer is out."""
        exchange.response_complete = True
        exchange.cancel = exchange.open_end = None
        if exchange.keep_alive and (not self.gate.is_draining or self._has_more()):
            self.on_response_complete()
        else:
            self._close_gently()

    def on_response_complete(self) -> None:
        """Also called by uvicorn's cycles. Arms no timer per response, as uvicorn would: the gate sweeps all connections."""
        self._reader.since_s = self.gate.now_s
        self._go_on()

    def _go_on(self) -> None:
        """An answer is out: what waited for it comes now."""
        if self.pipeline or self.flow.read_paused:
            self._next()
        elif self._owes_continue:
            self.expects_continue()

    def _next(self) -> None:
        """Go on with what is lined up, unless the client does not read the answers it has."""
        if self._is_advancing:
            # An answer given at once comes back here: the loop below goes on, so that a long line needs no deep stack.
            return
        self._is_advancing = True
        try:
            while self.pipeline and (self._current is None or self._current.response_complete) and not self.is_stuck():
                cycle: Any
                cycle, app = self.pipeline.pop()
                if isinstance(cycle, Exchange):
                    self._begin(cycle)
                else:
                    self._start_asgi_task(cycle, app)
        finally:
            self._is_advancing = False
        if not self.pipeline and not self.is_stuck():
            self.flow.resume_reading()

    def is_stuck(self) -> bool:
        """The client does not take its answers, or has gone."""
        return self.flow.write_paused or self.transport.is_closing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pace = None

    def resume_writing(self) -> None:
        super().resume_writing()
        self._pace, self._reader.since_s = None, self.gate.now_s
        if self._current is None or self._current.response_complete:
            self._next()
        elif isinstance(self._current, Exchange) and self._current.open_end is not None:
            self._current.open_end.resume()

    # The end

    def _close_gently(self) -> None:
        """After a refusal end our side only, and throw away what the client still sends, so that it can read the answer."""
        if self._reader.phase is CLOSING and self.transport.can_write_eof():
            self._reader.since_s = self._closing_since_s = self.gate.now_s
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()

    def _has_more(self) -> bool:
        """Asked while the server drains: whether more of this client's requests are here, so that the connection cannot end yet."""
        return bool(self.pipeline) or self._reader.phase is not REST

    def shutdown(self) -> None:
        """uvicorn calls this when the server drains. An idle client may be sending just now: it gets a moment, and its answer."""
        self.gate.is_draining = True
        if self._current is not None and not self._current.response_complete:
            self._current.keep_alive = self._current.keep_alive and isinstance(self._current, Exchange)
        else:
            self.loop.call_later(_LAME_DUCK_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        is_answered = self._current is None or self._current.response_complete
        is_between = self._reader.phase is REST or (self._reader.phase is HEAD and self._reader.exchange is None)
        if is_answered and is_between and not self.pipeline and not self.transport.is_closing():
            self.transport.close()

    def has_stalled(self, now_s: float) -> bool:
        """Asked once a second: whether the client sits in what it is doing for longer than it may."""
        limits, reader = self.gate.limits, self._reader
        waited_s = now_s - reader.since_s
        is_answered = self._current is None or self._current.response_complete
        if self.flow.write_paused:
            return self._is_too_slow(None, -self.transport.get_write_buffer_size(), now_s, limits.write_timeout_s)
        if reader.phase is CLOSING:
            return is_answered and (waited_s > _LINGER_S or now_s - self._closing_since_s > _LINGER_AT_MOST_S)
        if reader.phase is REST:
            return is_answered and waited_s > limits.idle_timeout_s
        if self.flow.read_paused:
            # It is we who do not read.
            reader.since_s, self._pace = now_s, None
            return False
        if reader.phase is HEAD:
            return waited_s > limits.header_timeout_s
        exchange = reader.exchange
        return exchange is not None and self._is_too_slow(exchange, exchange.body_bytes, now_s, _BODY_GRACE_S)

    def _is_too_slow(self, exchange: Exchange | None, done_bytes: int, now_s: float, grace_s: float) -> bool:
        """Of the body of an exchange, or (None) of the answers that the client does not take."""
        if self._pace is None or self._paced is not exchange:
            self._pace, self._paced = Pace(now_s, done_bytes), exchange
            return False
        return self._pace.is_too_slow(done_bytes, now_s, min_bytes_per_s=self.gate.limits.min_body_bytes_per_s, grace_s=grace_s)

    def forget_head(self) -> None:
        self._known = None

    def evict(self) -> None:
        """Called by the gate's sweep when `has_stalled`."""
        if self._reader.phase in (HEAD, BODY) and self._reader.exchange is not None and not self.flow.write_paused:
            self.refuse(refusals.request_timeout())
        else:
            self.transport.abort()


class _Answering:
    """A connection as the open end of one answer sees it."""

    def __init__(self, connection: GuardedProtocol, exchange: Exchange) -> None:
        self._connection, self._exchange = connection, exchange

    @property
    def is_stuck(self) -> bool:
        return self._connection.is_stuck()

    def send(self, raw: bytes) -> None:
        if not self._connection.transport.is_closing():
            self._connection.transport.write(raw)

    def finish(self) -> None:
        if not self._connection.transport.is_closing():
            self._connection.finish(self._exchange)


def protocol_for(gate: Gate) -> type[GuardedProtocol]:
    """The class uvicorn is given as `http=`."""
    return type("ServerProtocol", (GuardedProtocol,), {"gate": gate})
