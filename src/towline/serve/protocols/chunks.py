"""The open end of an answer of unknown length: chunks, or plain bytes for a client of HTTP/1.0, at the pace of its reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

LAST_CHUNK = b"0\r\n\r\n"


class Writer(Protocol):
    """What of a connection an open end needs."""

    def send(self, raw: bytes) -> None: ...

    @property
    def is_stuck(self) -> bool:
        """The client does not take what it was sent, or has gone."""
        ...

    def finish(self) -> None:
        """The answer is complete."""
        ...


class OpenEnd:
    """The HttpStream of serve/contract.py on a connection."""

    def __init__(self, writer: Writer, *, is_chunked: bool) -> None:
        self._writer: Writer | None = writer
        self._is_chunked = is_chunked
        self._more: Callable[[], None] | None = None

    def write(self, raw: bytes, more: Callable[[], None]) -> None:
        if self._writer is None:
            return
        # Of no bytes: an empty chunk would be the last.
        if raw:
            self._writer.send(b"%x\r\n%b\r\n" % (len(raw), raw) if self._is_chunked else raw)
        self._more = more
        self.resume()

    def resume(self) -> None:
        """The client reads again, or never stopped."""
        more = self._more
        if more is not None and self._writer is not None and not self._writer.is_stuck:
            self._more = None
            more()

    def end(self) -> None:
        writer, self._writer, self._more = self._writer, None, None
        if writer is not None:
            if self._is_chunked:
                writer.send(LAST_CHUNK)
            writer.finish()

    def cut(self) -> None:
        """The client has gone."""
        self._writer = self._more = None
