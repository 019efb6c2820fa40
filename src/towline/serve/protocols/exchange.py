"""One request and its answer on a connection, and the head of a request that needs no second look. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec

from towline.serve.codecs.json import LARGE_BYTES
from towline.serve.contract import Handler, HttpRequest, HttpResponse
from towline.serve.protocols.chunks import OpenEnd
from towline.serve.protocols.table import Found

_END_OF_HEAD = b"\r\n\r\n"
# Headers that say how to decode the body, or how long the client waits (protocols/incoming.py).
_NOT_PLAIN = (b"content-encoding", b"x-request-timeout-ms")


class _NoEvent:
    def set(self) -> None:
        """uvicorn sets a cycle's event when the connection is lost; an exchange learns of that by `cancel`."""


class Exchange(HttpRequest, eq=False, gc=True):
    """One request and its answer; handlers see the request. The first fields are positional where speed counts.

    `response_complete`, `keep_alive`, `disconnected` and `message_event` are uvicorn's of a cycle.
    """

    found: Found | None = None
    url: bytes = b""
    # Header lines that the answer repeats: the request's trace context, and what its origin may do.
    echo: bytes = b""
    # Of the body, while it arrives.
    parts: list[bytes | bytearray] | None = None
    # Where a large body goes as it arrives; `parts` are not used then.
    room: memoryview | None = None
    body_bytes: int = 0
    # How much of the body is counted in `Gate.held_bytes`.
    held_bytes: int = 0
    # Known before the request is complete when it is refused.
    response: HttpResponse | None = None
    cancel: Callable[[], None] | None = None
    keep_alive: bool = True
    # The client speaks HTTP/1.1, and so takes an answer of unknown length.
    takes_chunks: bool = True
    # Its body has a content coding.
    is_coded: bool = False
    # The open end of an answer whose head is out.
    open_end: OpenEnd | None = None
    response_complete: bool = False
    disconnected: bool = False
    message_event: ClassVar[_NoEvent] = _NoEvent()

    def gather(self) -> None:
        """Keep many small parts as one buffer, which grows without being copied each time."""
        assert self.parts
        first = self.parts[0]
        buffer = first if isinstance(first, bytearray) else bytearray(first)
        buffer += b"".join(self.parts[1:])
        # With a second part the body is joined in the end, and so becomes bytes.
        self.parts = [buffer, b""]

    def join_body(self) -> None:
        parts, self.parts = self.parts, None
        if self.room is not None:
            self.body, self.room = self.room, None  # type: ignore[assignment]
        elif parts:
            self.body = parts[0] if len(parts) == 1 else b"".join(parts)  # type: ignore[assignment]


class Head(msgspec.Struct, frozen=True, gc=False):
    """The bytes of a request's head that passed every check, and what they came to. The same bytes again need no parser.

    `size` is that of head and body together.
    """

    raw: bytes
    raw_size: int
    size: int
    method: str
    headers: list[tuple[bytes, bytes]]
    is_plain: bool
    found: Found
    handler: Handler


def learn(data: bytes, exchange: Exchange) -> Head | None:
    """The head of a request that came whole, and alone, in `data`; None when it did not, or may be the decoder's to read."""
    raw = data[: len(data) - exchange.body_bytes]
    # The first empty line must be the end: else there is more in `data` than this request.
    found = exchange.found
    may_be_large = exchange.is_coded or exchange.body_bytes > LARGE_BYTES
    if found is None or found.handler is None or may_be_large or raw.find(_END_OF_HEAD) != len(raw) - len(_END_OF_HEAD):
        return None
    is_plain = not any(name in _NOT_PLAIN for name, _ in exchange.headers)
    return Head(raw, len(raw), len(data), exchange.method, exchange.headers, is_plain, found, found.handler)
