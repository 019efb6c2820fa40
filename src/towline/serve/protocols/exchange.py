"""One request and its answer on a connection, and the head of a request that needs no second look. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec

from towline.serve.contract import HttpResponse
from towline.serve.protocols.chunks import OpenEnd
from towline.serve.protocols.table import Found

_END_OF_HEAD = b"\r\n\r\n"


class _NoEvent:
    def set(self) -> None:
        """uvicorn sets a cycle's event when the connection is lost; an exchange learns of that by `cancel`."""


class Exchange(msgspec.Struct, eq=False):
    """One request and its answer. `response_complete`, `keep_alive`, `disconnected` and `message_event` are uvicorn's of a cycle."""

    url: bytes = b""
    method: bytes = b""
    headers: list[tuple[bytes, bytes]] = []
    # Repeated by the answer: the request's id, the client's or ours; its trace context and what its origin may do, as header lines.
    id: bytes = b""
    echo: bytes = b""
    parts: list[bytes | bytearray] = []
    body_bytes: int = 0
    # How much of the body is counted in `Gate.held_bytes`.
    held_bytes: int = 0
    # On the gate's clock, when it began to arrive.
    received_s: float = 0.0
    found: Found | None = None
    # Known before the request is complete when it is refused.
    response: HttpResponse | None = None
    cancel: Callable[[], None] | None = None
    keep_alive: bool = True
    # The client speaks HTTP/1.1, and so takes an answer of unknown length.
    takes_chunks: bool = True
    # The open end of an answer whose head is out.
    open_end: OpenEnd | None = None
    response_complete: bool = False
    disconnected: bool = False
    message_event: ClassVar[_NoEvent] = _NoEvent()

    def gather(self) -> None:
        """Keep many small parts as one buffer, which grows without being copied each time."""
        first = self.parts[0]
        buffer = first if isinstance(first, bytearray) else bytearray(first)
        buffer += b"".join(self.parts[1:])
        # With a second part the body is joined in the end, and so becomes bytes.
        self.parts = [buffer, b""]

    def take_body(self) -> bytes:
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)  # type: ignore[return-value]


class Head(msgspec.Struct, frozen=True, gc=False):
    """The bytes of a request's head that passed every check, and what they came to. The same bytes again need no parser.

    `size` is that of head and body together.
    """

    raw: bytes
    size: int
    method: bytes
    headers: list[tuple[bytes, bytes]]
    found: Found


def learn(data: bytes, exchange: Exchange) -> Head | None:
    """The head of a request that came whole, and alone, in `data`; None when it did not."""
    raw = data[: len(data) - exchange.body_bytes]
    # The first empty line must be the end: else there is more in `data` than this request.
    if exchange.found is None or raw.find(_END_OF_HEAD) != len(raw) - len(_END_OF_HEAD):
        return None
    return Head(raw, len(data), exchange.method, exchange.headers, exchange.found)
