"""Bytes of one connection -> requests, within limits: the parser's callbacks, and the guard that the parser lacks."""

from __future__ import annotations

import logging
from typing import Protocol

import httptools

from towline.core.errors import TowlineError
from towline.serve.protocols import filling, refusals
from towline.serve.protocols.exchange import Exchange
from towline.serve.protocols.gate import Gate

log = logging.getLogger("towline.http")

# What the client is doing. REST: between requests. CLOSING: nothing that is read any more.
HEAD, BODY, REST, CLOSING = "head", "body", "rest", "closing"
_MAX_PARTS = 1024
_MAX_CHUNKS = 65_536
# Of a body sent in chunks: what is no body, which is sizes, extensions and trailers.
_MAX_FRAMING_BYTES = 1 << 20
_WATCHED = frozenset(
    {
        b"host",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"x-request-id",
        b"traceparent",
        b"origin",
    }
)


class Receiver(Protocol):
    """Who is told what was read."""

    def line_up(self, exchange: Exchange) -> None:
        """A request is complete."""
        ...

    def refuse(self, problem: TowlineError) -> None:
        """What comes is no request that may be answered: call `give_up`."""
        ...

    def expects_continue(self) -> None:
        """A request's head is complete, and its client waits to be told to send the body."""
        ...

    def hand_over(self, exchange: Exchange) -> None:
        """A request's head is complete, and it is the ASGI app's: its body and end go to `pass_on`."""
        ...

    def pass_on(self, body: bytes | None) -> None:
        """A part of the body of the request that was handed over; None is its end."""
        ...


class RequestReader:
    """`phase`, `since_s` and `exchange` tell where it is: what is being read, since when, and whose; None for the ASGI app's."""

    def __init__(self, gate: Gate, receiver: Receiver) -> None:
        self.phase = HEAD
        self.since_s = gate.now_s
        self.exchange: Exchange | None = None
        self.is_parsing = False
        # The request that came last, when its head may be remembered.
        self.whole: Exchange | None = None
        self._gate = gate
        self._receiver: Receiver | None = receiver
        self.parser = self._new_parser()
        # Bytes of the request being read that are not its body.
        self._overhead_bytes = 0
        self._hosts = self._length = 0
        # Chunks begun; -1 when the body is not sent in chunks.
        self._chunks = -1
        self._expects_continue = self._offers_upgrade = False
        self._problem: TowlineError | None = None

    def feed(self, data: bytes) -> None:
        """Tell the receiver of all that is complete with `data`."""
        self.whole = None
        self._overhead_bytes += len(data)
        self.is_parsing = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            # It may be ignored (RFC 9110, 7.8), as clients that would rather speak HTTP/2 expect. What follows is HTTP/1.1 still.
            self._feed_rest(memoryview(data)[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse_unreadable(error)
        self.is_parsing = False
        if self.phase is BODY and self.exchange is not None and not self._gate.hold(self.exchange):
            self._refuse(refusals.too_many_bytes())
        elif self._overhead_bytes > self._gate.limits.max_header_bytes:
            self._check_overhead()

    def filled(self, size: int) -> None:
        """So many bytes of the body were written into its room past the parser."""
        exchange = self.exchange
        assert exchange is not None
        exchange.body_bytes += size
        if exchange.body_bytes == self._length:
            # The old one waits for the end of this body.
            self.parser = self._new_parser()
            self.whole = None
            self.on_message_complete()
        elif not self._gate.hold(exchange):
            self._refuse(refusals.too_many_bytes())

    def give_up(self) -> Exchange:
        """Read no further. Returns the request that was being read, if one was."""
        exchange, self.exchange = self.exchange or Exchange(), None
        self.phase, self.since_s = CLOSING, self._gate.now_s
        self._gate.release(exchange)
        exchange.parts = exchange.room = None
        exchange.keep_alive = False
        return exchange

    def close(self) -> None:
        """The connection is gone. Parser, reader and receiver hold one another: no longer, so that none waits for the collector."""
        if self.exchange is not None:
            self._gate.release(self.exchange)
        self.parser = None  # type: ignore[assignment]
        self._receiver = None

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What follows a request that ends the connection is then ignored, and is no fault of that request's.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _feed_rest(self, rest: memoryview) -> None:
        while self.phase is not CLOSING:
            if self.phase is BODY and self.exchange is not None:
                self._read_body_anew(self.exchange)
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
        self.parser = self._new_parser()
        self.exchange = None
        self.parser.feed_data(b"POST / HTTP/1.1\r\nconnection: %b\r\n%b\r\n\r\n" % (connection, framing))
        self.exchange = exchange

    def _refuse(self, problem: TowlineError) -> None:
        if self.phase is not CLOSING and self._receiver is not None:
            self._receiver.refuse(problem)

    def _refuse_unreadable(self, error: httptools.HttpParserError) -> None:
        if isinstance(error, httptools.HttpParserCallbackError):
            # An exception of one of our own callbacks, told apart from a fault of the client's.
            log.error("a request could not be read", exc_info=error)
            self._refuse(refusals.unreadable())
        else:
            self._refuse(refusals.not_http())

    def _check_overhead(self) -> None:
        if self.phase is not BODY:
            self._refuse(refusals.headers_too_large(self._gate.limits))
        elif self._overhead_bytes > _MAX_FRAMING_BYTES:
            self._refuse(refusals.too_finely_chunked())

    # The parser's callbacks, in the order they come. After a refusal the parser goes on to the end of its packet, unheard.

    def on_message_begin(self) -> None:
        if self.phase is CLOSING or self.phase is BODY:
            return
        self.exchange = Exchange(received_s=self._gate.clock(), parts=[])
        self._hosts = self._length = 0
        self._chunks = -1
        self._expects_continue = self._offers_upgrade = False
        self._problem = None
        if self.phase is REST:
            self.phase, self.since_s = HEAD, self._gate.now_s

    def on_url(self, url: bytes) -> None:
        if self.exchange is not None:
            self.exchange.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self.exchange
        # Trailers come this way too. Nothing we answer asks for one.
        if exchange is None or self.phase is BODY:
            return
        name, value = name.lower(), value.rstrip(b" \t")
        exchange.headers.append((name, value))
        if name not in _WATCHED:
            return
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self._length = int(value) if len(value) < 20 and value.isdigit() else self._gate.limits.max_request_bytes + 1
        elif name == b"content-encoding":
            exchange.is_coded = True
        elif name == b"transfer-encoding":
            self._chunks = 0
            if value.lower() != b"chunked":
                self._problem = refusals.wrong_transfer_encoding()
        elif name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
            if not self._expects_continue:
                self._problem = refusals.unknown_expectation()
        elif name == b"upgrade":
            self._offers_upgrade = True
        elif name == b"traceparent":
            exchange.echo += self._gate.trace_line(value)
        elif name == b"origin":
            exchange.echo += self._gate.cors.line(value)
        elif self._gate.is_request_id(value):
            exchange.id = value

    def on_headers_complete(self) -> None:
        exchange, gate, receiver = self.exchange, self._gate, self._receiver
        if exchange is None or receiver is None:
            return
        version = self.parser.get_http_version()
        method = self.parser.get_method()
        exchange.method = method.decode("ascii")
        exchange.keep_alive = version == "1.1" and self.parser.should_keep_alive()
        exchange.takes_chunks = version == "1.1"
        problem = self._problem or gate.check_head(exchange.headers, exchange.url, self._hosts, version)
        if problem is None and self._length > gate.limits.max_request_bytes:
            problem = refusals.body_too_large(gate.limits)
        if problem is None and self._chunks == 0 and version != "1.1":
            problem = refusals.wrong_transfer_encoding()
        if problem is not None:
            self._refuse(problem)
            return
        self._overhead_bytes = 0
        self.phase, self.since_s = BODY, gate.now_s
        if gate.is_preflight(method, exchange.headers):
            exchange.found, exchange.echo = gate.cors.preflight, b""
        else:
            exchange.found = gate.routes.find(method, exchange.url)
        problem = gate.check_key(exchange.headers, exchange.found, method)
        if problem is not None:
            self._refuse(problem)
        elif exchange.found.error is not None and gate.has_fallback:
            self.exchange = None
            receiver.hand_over(exchange)
            return
        # Of a client that offers to upgrade the body is read anew, by another parser.
        if self._chunks < 0 and not self._offers_upgrade:
            exchange.room = filling.room_for(exchange, self._length)
        if self._expects_continue:
            receiver.expects_continue()

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            self._refuse(refusals.too_finely_chunked())

    def on_body(self, body: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            if self.phase is not CLOSING and self._receiver is not None:
                self._receiver.pass_on(body)
            return
        exchange.body_bytes += len(body)
        self._overhead_bytes -= len(body)
        if exchange.body_bytes > self._gate.limits.max_request_bytes:
            self._refuse(refusals.body_too_large(self._gate.limits))
            return
        if exchange.room is not None:
            exchange.room[exchange.body_bytes - len(body) : exchange.body_bytes] = body
            return
        parts = exchange.parts
        assert parts is not None
        parts.append(body)
        if len(parts) > _MAX_PARTS:
            exchange.gather()

    def on_message_complete(self) -> None:
        receiver = self._receiver
        if self.phase is CLOSING or receiver is None or (self._offers_upgrade and self._is_body_due()):
            return
        self.phase, self.since_s = REST, self._gate.now_s
        self._overhead_bytes = 0
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            receiver.pass_on(None)
            return
        # A head is remembered when it declares a length, leaves the connection open, and tells neither an id nor a trace or an origin:
        # those change from one request to the next.
        self.whole = exchange if self._length and exchange.keep_alive and not (exchange.id or exchange.echo) else None
        receiver.line_up(exchange)

    def _is_body_due(self) -> bool:
        return self.exchange is not None and self.parser.should_upgrade() and (self._length > 0 or self._chunks >= 0)
