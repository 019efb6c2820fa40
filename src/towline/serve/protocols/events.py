"""Answers in parts as server-sent events: one `data:` for each part, then an end or an error that says so."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.serve.codecs import json
from towline.serve.contract import DataPlane, HttpRequest, HttpResponse, HttpStream, Reply, Served

EVENTS = b"text/event-stream"
# Proxies that would wait for the whole answer are told not to.
_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_YES = ("stream=true", "stream=1")


@dataclass(frozen=True)
class Wording:
    """How one protocol words its answers: a part's data, an error before the first part, one after it, and the end."""

    part: Callable[[Response], bytes]
    refusal: Callable[[TowlineError], HttpResponse]
    error: Callable[[TowlineError], bytes]
    end: bytes = b"event: end\ndata: {}\n\n"


def wants_events(served: Served, request: HttpRequest) -> bool:
    """Whether the version answers in parts, and the client asks for them: by its Accept header or by `?stream=true`."""
    handler = served.manifest.handler
    if handler is None or not handler.streams:
        return False
    return EVENTS in (request.header(b"accept") or b"").lower() or any(word in _YES for word in request.query.lower().split("&"))


def answer(plane: DataPlane, served: Served, request: Request, wording: Wording, reply: Reply, *, protocol: str) -> Callable[[], None]:
    """Run the request and reply with an event for each part; returns what cancels."""
    stream = _Events(wording, reply)
    stream.cancel = plane.infer(served, request, stream.done, protocol=protocol, on_part=stream.on_part)
    return stream.cancel


class _Events:
    def __init__(self, wording: Wording, reply: Reply) -> None:
        self.cancel: Callable[[], None] = _nothing
        self._wording = wording
        self._reply = reply
        self._stream: HttpStream | None = None
        self._is_over = False

    def on_part(self, part: Response, more: Callable[[], None]) -> None:
        if self._is_over:
            return
        try:
            self._write(part, more)
        except TowlineError as error:
            # What came cannot be said in this protocol, nor could the rest.
            self.done(error)
            self.cancel()

    def _write(self, part: Response, more: Callable[[], None]) -> None:
        event = data(self._wording.part(part))
        self._opened().write(event, more)

    def done(self, result: Response | TowlineError) -> None:
        """The end of the parts, an error before or among them, or a whole answer of who gives no parts."""
        if self._is_over:
            return
        self._is_over = True
        try:
            if isinstance(result, Response) and result.outputs:
                self._write(result, _nothing)
        except TowlineError as error:
            result = error
        if isinstance(result, TowlineError) and self._stream is None:
            self._reply(self._wording.refusal(result))
            return
        stream = self._opened()
        stream.write(self._wording.error(result) if isinstance(result, TowlineError) else self._wording.end, _nothing)
        stream.end()

    def _opened(self) -> HttpStream:
        if self._stream is None:
            self._reply(HttpResponse(200, content_type=EVENTS, headers=_HEADERS, begin=self._begin))
        assert self._stream is not None, "a transport begins an answer before it returns"
        return self._stream

    def _begin(self, stream: HttpStream) -> None:
        self._stream = stream


def data(raw: bytes, event: bytes = b"") -> bytes:
    """One event. Its data may have several lines, whatever ends them."""
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    head = b"event: %b\n" % event if event else b""
    return head + b"".join([b"data: %b\n" % line for line in lines]) + b"\n"


def as_text(raw: bytes, media_type: str) -> bytes:
    """A body as an event's data: text as it is, of anything else its base64."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return json.dumps({"b64": base64.b64encode(raw).decode(), "content_type": media_type})
    return raw


def _nothing() -> None:
    """Nobody waits."""
