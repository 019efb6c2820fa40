"""gRPC-Web on the HTTP port: the methods that gRPC serves, for browsers, which cannot read HTTP trailers.

A request is one message, which is all that the protocol lets a page send; an answer is one, or a stream. The HTTP status is always 200.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping

from towline.core.errors import NotFound
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpRequest, Reply, Route
from towline.serve.protocols.errors import own_error, printable
from towline.serve.protocols.grpc.contract import Call, Code, Methods, Refusal, joined
from towline.serve.protocols.grpcweb_answer import FRAME, Form, answer_in_parts

_COMPRESSED = 0x01
_MEDIA = re.compile(rb"application/grpc-web(?P<text>-text)?(?P<proto>\+proto)?(?:\s*;.*)?", re.IGNORECASE)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# A path with a dot before its last slash: no other protocol of ours has one.
_PATH = r"/(?P<service>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)+)/(?P<method>[A-Za-z0-9_]+)"
# What is HTTP's own business, and no metadata of a call.
_HTTP_HEADERS = frozenset(
    {b"host", b"content-length", b"content-type", b"connection", b"accept-encoding", b"transfer-encoding", b"grpc-timeout"}
)


def routes(methods: Callable[[], Methods], limits: Limits) -> tuple[Route, ...]:
    """`methods` is asked at the first call: a server that nobody calls this way does not load protobuf for it."""

    def handle(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        media = _MEDIA.fullmatch(request.header(b"content-type") or b"")
        if media is None:
            reply(own_error(_not_grpc_web(request), request))
            return None
        form = Form(is_text=media["text"] is not None)

        def answer(result: bytes | Refusal) -> None:
            reply(form.whole(result))

        try:
            message = read_message(request.body, is_text=form.is_text, max_bytes=limits.max_request_bytes)
            deadline = _deadline(request)
        except ProtocolError as error:
            answer(error.refusal)
            return None
        path = f"/{names['service']}/{names['method']}"
        method, stream = methods().unary.get(path), methods().streams.get(path)
        metadata = joined((name.decode("latin-1"), _metadata(name, value)) for name, value in request.headers if name not in _HTTP_HEADERS)
        call = Call(request.received_s, deadline, metadata, _peer(request))
        if method is not None:
            return method(message, call, answer)
        if stream is not None and not stream.many_requests:
            return answer_in_parts(stream, message, call, form, reply)
        answer(_missing(path, is_there=stream is not None))
        return None

    return (Route("POST", _PATH, handle),)


def _peer(request: HttpRequest) -> str:
    return f"{request.peer[0]}:{request.peer[1]}" if request.peer else ""


class ProtocolError(Exception):
    """The body or a header is not gRPC-Web's."""

    def __init__(self, message: str, code: Code = Code.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message)


def read_message(body: bytes, *, is_text: bool, max_bytes: int) -> bytes:
    """The one message of a unary call. Raises ProtocolError."""
    if is_text:
        try:
            body = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise ProtocolError("The body of grpc-web-text is not base64, padded at its end only.") from None
    if len(body) < FRAME.size:
        raise ProtocolError(f"The body has {len(body)} bytes: a frame begins with {FRAME.size}, a flag and a length.")
    flag, length = FRAME.unpack_from(body)
    if flag == _COMPRESSED:
        raise ProtocolError("Compressed messages are not taken.", Code.UNIMPLEMENTED)
    if flag:
        raise ProtocolError(f"The body begins with a frame of flag {flag:#04x}: expected 0x00, a message.")
    if length > max_bytes:
        raise ProtocolError(f"The message is larger than the {max_bytes} bytes this server takes.", Code.RESOURCE_EXHAUSTED)
    if length != len(body) - FRAME.size:
        raise ProtocolError(f"The frame says its message has {length} bytes; {len(body) - FRAME.size} follow. One message makes a call.")
    return body[FRAME.size :]


def _deadline(request: HttpRequest) -> float | None:
    value = request.header(b"grpc-timeout")
    if value is None:
        return None
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ProtocolError("grpc-timeout must be at most 8 digits and a unit, one of H M S m u n.")
    return request.received_s + int(match[1]) * _SECONDS[match[2]]


def _metadata(name: bytes, value: bytes) -> str | bytes:
    if not name.endswith(b"-bin"):
        return value.decode("latin-1")
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _missing(path: str, *, is_there: bool) -> Refusal:
    if is_there:
        return Refusal(Code.UNIMPLEMENTED, f"{printable(path, 128)} takes a stream of messages; gRPC-Web can send one. Call it over gRPC.")
    return Refusal(Code.UNIMPLEMENTED, f"There is no method {printable(path, 128)}.")


def _not_grpc_web(request: HttpRequest) -> NotFound:
    return NotFound(
        f"Nothing is at '{printable(request.path)}' but for gRPC-Web.",
        code="NO_SUCH_PATH",
        field="content-type",
        hint="Send application/grpc-web+proto here, or gRPC to the gRPC port.",
    )
