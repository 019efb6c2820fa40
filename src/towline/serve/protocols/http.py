"""One connection of HTTP/1.1: its bytes, to a reader within limits or past it, and who is refused for them or for their lack."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from towline.core.errors import TowlineError
from towline.serve.protocols import refusals
from towline.serve.protocols.answers import AnsweringProtocol
from towline.serve.protocols.exchange import Exchange, Head, learn
from towline.serve.protocols.filling import BodyFiller
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.reader import BODY, CLOSING, HEAD, REST, RequestReader

# Connections above the limit that are told so; more are cut without a word.
_MAX_TURNED_AWAY = 256


class GuardedProtocol(AnsweringProtocol):
    """One connection. `gate` (limits, routes, clock) is set on a subclass made per server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reader = RequestReader(self.gate, self)
        self.parser = self._reader.parser
        # The head of the last request. The same bytes again need no parser.
        self._known: Head | None = None

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
                gate, found, handler = self.gate, known.found, known.handler
                # Names of their own: called as if they were methods, they are looked for in the class first.
                clock, new_id = gate.clock, gate.new_id
                reader.since_s = gate.now_s
                exchange = Exchange(
                    known.method,
                    found.path,
                    found.query,
                    known.headers,
                    data[known.raw_size :],
                    # By the fine clock: a client may ask to wait less than the coarse one is apart.
                    clock(),
                    new_id(),
                    known.is_plain,
                    self.client,
                )
                self.cycle = self._current = exchange  # type: ignore[assignment]
                reply = partial(self._answer, exchange)
                try:
                    # As Gate.handle does, of a head that led to a handler.
                    exchange.cancel = handler(exchange, found.params, reply)
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

    # What the reader tells, beside `line_up` and `expects_continue`

    def refuse(self, problem: TowlineError) -> None:
        """Answer with an error in its turn, then close. Nothing more is parsed."""
        if self._reader.phase is CLOSING or self.transport.is_closing():
            return
        exchange = self._reader.give_up()
        self._take_over()
        exchange.id = exchange.id or self.gate.new_id()
        exchange.response = refusals.response_to(problem, exchange.id)
        self.line_up(exchange)

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

    # Who sits too long

    def has_stalled(self, now_s: float) -> bool:
        """Asked once a second: whether the client sits in what it is doing for longer than it may."""
        limits = self.gate.limits
        if self.flow.write_paused:
            return self._patience.ends_with_writer(self.transport.get_write_buffer_size(), now_s, limits)
        is_answered, is_read = self._is_answered, not self.flow.read_paused
        return self._patience.ends_with_reader(self._reader, now_s, limits, is_answered=is_answered, is_read=is_read)

    def forget_head(self) -> None:
        self._known = None

    def evict(self) -> None:
        """Called by the gate's sweep when `has_stalled`."""
        if self._reader.phase in (HEAD, BODY) and self._reader.exchange is not None and not self.flow.write_paused:
            self.refuse(refusals.request_timeout())
        else:
            self.transport.abort()


def protocol_for(gate: Gate) -> type[GuardedProtocol]:
    """The class uvicorn is given as `http=`."""
    return type("ServerProtocol", (GuardedProtocol,), {"gate": gate})
