"""Large binary bodies: one buffer, into which the kernel writes what a client sends, with no copy in between."""

from __future__ import annotations

import asyncio
from typing import Protocol

import numpy as np

from towline.serve.protocols.exchange import Exchange

# Smaller bodies come in one or two reads anyway.
MIN_BYTES = 64 << 10
_ALIGNMENT = 64


def room_for(exchange: Exchange, length: int) -> memoryview | None:
    """Where a body of `length` bytes goes as it arrives; None when it is collected in parts.

    Memory is taken as bytes arrive, not as they are announced. The bytes after the JSON lie where an array of any type may begin.
    """
    if length < MIN_BYTES or exchange.found is None or not exchange.found.takes_buffer:
        return None
    before = exchange.header(b"inference-header-content-length") or b""
    skipped = -int(before) % _ALIGNMENT if before.isdigit() and len(before) <= 18 else 0
    # Not a bytearray: that would be filled with zeros first.
    raw = np.empty(length + 2 * _ALIGNMENT, np.uint8)
    skipped += -raw.ctypes.data % _ALIGNMENT
    return raw.data[skipped : skipped + length]


class Connection(Protocol):
    """Whose body is awaited."""

    def filled(self, size: int) -> None:
        """So many bytes more are in the room."""
        ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def eof_received(self) -> bool | None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class BodyFiller(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol until a body is complete, so that nothing behind the body can be read into it."""

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        assert exchange.room is not None
        self._connection = connection
        self._left = exchange.room[exchange.body_bytes :]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._left

    def buffer_updated(self, nbytes: int) -> None:
        self._left = self._left[nbytes:]
        self._connection.filled(nbytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
