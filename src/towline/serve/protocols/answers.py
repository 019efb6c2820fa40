"""The answers of one connection of HTTP/1.1: in the order of their requests, given without an ASGI task, and the end after the last.

A request is an `Exchange`. uvicorn keeps its own cycle objects in `self.cycle` and `self.pipeline`; an exchange stands in for one,
so that requests answered here and requests answered by the ASGI app keep their order on one connection.
tests/serve/test_uvicorn_attributes.py holds the attributes of the semi-private base class that this file and http.py rely on.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from towline.serve.contract import HttpResponse, JsonAnswer
from towline.serve.decoder.choice import MAX_OWN_BYTES
from towline.serve.protocols.chunks import OpenEnd
from towline.serve.protocols.exchange import Exchange
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.reader import CLOSING, HEAD, REST, RequestReader
from towline.serve.protocols.stalling import Patience

_LAME_DUCK_S = 0.3


class AnsweringProtocol(HttpToolsProtocol):
    """What goes out. What comes in is a subclass's (http.py), not a part's: a request would pay for each look from one to the other."""

    gate: ClassVar[Gate]
    _reader: RequestReader

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What is being answered, exchange or uvicorn's cycle.
        self._current: Any = None
        self._is_advancing = self._owes_continue = False
        self._patience = Patience(self.gate.now_s)

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

    def expects_continue(self) -> None:
        """Tell a client that waits with its body to send it, but not before the answers to what it sent before."""
        self._owes_continue = self.cycle is not None and not self.cycle.response_complete
        if not self._owes_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

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
        if type(response) is JsonAnswer and exchange.keep_alive and not gate.is_draining and exchange.method != "HEAD":
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
        self._patience.begin_anew()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._patience.begin_anew()
        self._reader.since_s = self.gate.now_s
        if self._is_answered:
            self._next()
        elif isinstance(self._current, Exchange) and self._current.open_end is not None:
            self._current.open_end.resume()

    # The end

    def _close_gently(self) -> None:
        """After a refusal end our side only, and throw away what the client still sends, so that it can read the answer."""
        if self._reader.phase is CLOSING and self.transport.can_write_eof():
            self._reader.since_s = self._patience.closing_since_s = self.gate.now_s
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()

    @property
    def _is_answered(self) -> bool:
        """Nothing of this client's is being answered."""
        return self._current is None or bool(self._current.response_complete)

    def _has_more(self) -> bool:
        """Asked while the server drains: whether more of this client's requests are here, so that the connection cannot end yet."""
        return bool(self.pipeline) or self._reader.phase is not REST

    def shutdown(self) -> None:
        """uvicorn calls this when the server drains. An idle client may be sending just now: it gets a moment, and its answer."""
        self.gate.is_draining = True
        if self._is_answered:
            self.loop.call_later(_LAME_DUCK_S, self._close_if_idle)
        else:
            self._current.keep_alive = self._current.keep_alive and isinstance(self._current, Exchange)

    def _close_if_idle(self) -> None:
        is_between = self._reader.phase is REST or (self._reader.phase is HEAD and self._reader.exchange is None)
        if self._is_answered and is_between and not self.pipeline and not self.transport.is_closing():
            self.transport.close()


class _Answering:
    """A connection as the open end of one answer sees it."""

    def __init__(self, connection: AnsweringProtocol, exchange: Exchange) -> None:
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
