"""Answers as gRPC-Web writes them: frames of flag u8 | length u32 big-endian | payload, of which the last has flag 0x80 and the trailers.

Source: the gRPC-Web protocol, PROTOCOL-WEB.md of the gRPC project. `-text` bodies are base64, each frame padded by itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote

from towline.serve.contract import HttpResponse, HttpStream
from towline.serve.contract import Reply as HttpReply
from towline.serve.protocols.grpc.contract import Call, Cancel, Code, Refusal, Refused, Stream

log = logging.getLogger("towline.serve")

FRAME = struct.Struct(">BI")
_TRAILERS = 0x80
_FINE = Refusal(Code.OK, "")
# Proxies that would wait for the whole answer are told not to.
_AT_ONCE = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


@dataclass(frozen=True)
class Form:
    """How a client wants its answer: in base64, or not."""

    is_text: bool

    @property
    def media_type(self) -> bytes:
        return b"application/grpc-web-text+proto" if self.is_text else b"application/grpc-web+proto"

    def whole(self, result: bytes | Refusal) -> HttpResponse:
        """The answer of a unary call, or of one that is refused before its first message: then the trailers are the headers."""
        if isinstance(result, Refusal):
            return HttpResponse(200, b"", self.media_type, _pairs(result))
        # Encoded as one: not every client reads on behind a padding.
        body = _frame(0, result) + _frame(_TRAILERS, _lines(_FINE))
        return HttpResponse(200, base64.b64encode(body) if self.is_text else body, self.media_type)

    def message(self, raw: bytes) -> bytes:
        return self._encoded(_frame(0, raw))

    def trailers(self, end: Refusal) -> bytes:
        return self._encoded(_frame(_TRAILERS, _lines(end)))

    def _encoded(self, frame: bytes) -> bytes:
        return base64.b64encode(frame) if self.is_text else frame


def answer_in_parts(stream: Stream, message: bytes, call: Call, form: Form, reply: HttpReply) -> Cancel:
    """Answer with a frame for each message, as it comes and the client takes it; returns what gives the call up."""
    task = asyncio.ensure_future(_Answer(form, reply).give(stream, message, call))

    # Until it is replied the connection holds this, and with it the task, which the loop remembers only weakly.
    def cancel() -> None:
        task.cancel()

    return cancel


class _Answer:
    def __init__(self, form: Form, reply: HttpReply) -> None:
        self._form = form
        self._reply = reply
        self._stream: HttpStream | None = None

    async def give(self, stream: Stream, message: bytes, call: Call) -> None:
        end = _FINE
        left_s = None if call.deadline is None else call.deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left_s), contextlib.aclosing(stream.method(_one(message), call)) as answers:
                async for answer in answers:
                    await self._write(self._form.message(answer))
        except Refused as error:
            end = error.refusal
        except TimeoutError:
            end = Refusal(Code.DEADLINE_EXCEEDED, "The deadline of the call has passed.")
        except Exception:
            # No method means to: without an end its client would wait for ever.
            log.exception("a stream over gRPC-Web failed")
            end = Refusal(Code.INTERNAL, "The server failed while answering this; its log says why.")
        if self._stream is None and end is not _FINE:
            self._reply(self._form.whole(end))
            return
        last = self._opened()
        last.write(self._form.trailers(end), _nothing)
        last.end()

    async def _write(self, raw: bytes) -> None:
        """Returns when there is room for more, which a client that has gone never has: then the call is given up instead."""
        room = asyncio.Event()
        self._opened().write(raw, room.set)
        await room.wait()

    def _opened(self) -> HttpStream:
        if self._stream is None:
            self._reply(HttpResponse(200, content_type=self._form.media_type, headers=_AT_ONCE, begin=self._begin))
        assert self._stream is not None, "a transport begins an answer before it returns"
        return self._stream

    def _begin(self, stream: HttpStream) -> None:
        self._stream = stream


async def _one(message: bytes) -> AsyncIterator[bytes]:
    yield message


def _frame(flag: int, payload: bytes) -> bytes:
    return FRAME.pack(flag, len(payload)) + payload


def _lines(end: Refusal) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in _pairs(end)])


def _pairs(end: Refusal) -> tuple[tuple[bytes, bytes], ...]:
    more = [(name.encode("ascii"), percent_encoded(value)) for name, value in end.trailers]
    return ((b"grpc-status", b"%d" % end.code), (b"grpc-message", percent_encoded(end.message)), *more)


def percent_encoded(text: str) -> bytes:
    """As gRPC writes a status message: every byte outside of printable ASCII, and the percent sign, as %XX."""
    return quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode("ascii")


def _nothing() -> None:
    """Nothing follows."""
