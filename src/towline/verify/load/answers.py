"""Read HTTP/1.1 answers off a connection, cheaply when they come whole. Pure."""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,18}) *\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *[^\r]*chunked *\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)
_KEEP = re.compile(rb"\r\nconnection: *keep-alive *\r\n", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[^\r\n]{0,256}\r\n")
MAX_HEAD_BYTES = 64 << 10
_HEAD_END = b"\r\n\r\n"


class NotHttp(Exception):
    """What came is no HTTP answer."""


class Answers:
    """The answers on one connection. `feed` takes what arrived and returns the statuses of the answers it completed.

    `is_last` after an answer: the server closes the connection. Bodies are counted and thrown away, but for `body` when `keep_body`.
    """

    __slots__ = ("_buffer", "_chunked", "_keep", "_left", "_status", "_to_end", "body", "is_last")

    def __init__(self, *, keep_body: bool = False) -> None:
        self._keep = keep_body
        self._forget()
        self.is_last = False

    def _forget(self) -> None:
        self._buffer = b""
        self._left = 0
        self._status = 0
        self._chunked = self._to_end = False
        self.body = b""

    def feed(self, data: bytes) -> list[int]:
        """Raises NotHttp."""
        done: list[int] = []
        if self._status:
            data = self._read_body(data, done)
        elif self._buffer:
            data, self._buffer = self._buffer + data, b""
        while data:
            head_end = data.find(_HEAD_END)
            if head_end < 0:
                if len(data) > MAX_HEAD_BYTES:
                    raise NotHttp("a head without an end")
                self._buffer = data
                break
            self._read_head(data[: head_end + 2])
            data = self._read_body(data[head_end + 4 :], done)
        return done

    def end(self) -> list[int]:
        """The connection was closed: the answer that lasts until then, if one does."""
        if not self._to_end:
            return []
        status = self._status
        self._next()
        self.is_last = True
        return [status]

    def _read_head(self, head: bytes) -> None:
        status = _STATUS.match(head)
        if status is None:
            raise NotHttp("no status line")
        if self._keep:
            self.body = b""
        self._status = int(status[1])
        self.is_last = _CLOSE.search(head) is not None or (head.startswith(b"HTTP/1.0") and _KEEP.search(head) is None)
        if 100 <= self._status < 200 or self._status in (204, 304):
            self._left = 0
            return
        length = _LENGTH.search(head)
        if length is not None:
            self._left = int(length[1])
        elif _CHUNKED.search(head) is not None:
            self._chunked = True
        else:
            self._to_end = True

    def _read_body(self, data: bytes, done: list[int]) -> bytes:
        """Take the body's part of `data`; returns what follows it."""
        if self._chunked:
            return self._read_chunks(data, done)
        if self._to_end:
            self._take(data)
            return b""
        size = len(data)
        if size < self._left:
            self._left -= size
            self._take(data)
            return b""
        rest = data[self._left :] if size > self._left else b""
        self._take(data[: self._left] if rest else data)
        self._finish(done)
        return rest

    def _read_chunks(self, data: bytes, done: list[int]) -> bytes:
        """`_left` is what is left of a chunk with the line end behind it; `_buffer` a size line, or trailers, torn in two."""
        data, self._buffer = self._buffer + data, b""
        while data:
            if self._left:
                taken = data[: self._left]
                self._left -= len(taken)
                self._take(taken[: max(0, len(taken) - max(0, 2 - self._left))])
                data = data[len(taken) :]
                continue
            found = _CHUNK.match(data)
            if found is None:
                if len(data) > MAX_HEAD_BYTES or b"\n" in data:
                    raise NotHttp("no chunk size")
                break
            size = int(found[1], 16)
            if size:
                self._left = size + 2
                data = data[found.end() :]
                continue
            # The last chunk: trailers, each a line, then an empty one.
            end = data.find(_HEAD_END, found.end() - 2)
            if end < 0:
                break
            self._finish(done)
            return data[end + 4 :]
        self._buffer = data
        return b""

    def _take(self, data: bytes) -> None:
        if self._keep:
            self.body += data

    def _finish(self, done: list[int]) -> None:
        # 100 Continue and its like come before the answer.
        if self._status >= 200:
            done.append(self._status)
        self._next()

    def _next(self) -> None:
        self._status = self._left = 0
        self._chunked = self._to_end = False
