"""gRPC-Web on the HTTP port: the methods that gRPC serves, for browsers, which cannot read HTTP trailers.

Source: the gRPC-Web protocol, PROTOCOL-WEB.md of the gRPC project. A body is frames of flag u8 | length u32 big-endian | payload; the
last frame of an answer has flag 0x80 and holds the trailers. `-text` bodies are base64 of that. The HTTP status is always 200.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote

from towline.core.errors import NotFound
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpRequest, HttpResponse, Reply, Route
from towline.serve.protocols.errors import own_error, printable
from towline.serve.protocols.grpc.contract import Call, Code, Methods, Refusal, joined

_FRAME = struct.Struct(">BI")
_COMPRESSED, _TRAILERS = 0x01, 0x80
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

    def call(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        media = _MEDIA.fullmatch(request.header(b"content-type") or b"")
        if media is None:
            reply(own_error(_not_grpc_web(request), request))
            return None
        is_text = media["text"] is not None

        def answer(result: bytes | Refusal) -> None:
            reply(_response(result, is_text=is_text))

        try:
            message = read_message(request.body, is_text=is_text, max_bytes=limits.max_request_bytes)
            deadline = _deadline(request)
        except ProtocolError as error:
            answer(error.refusal)
            return None
        path = f"/{names['service']}/{names['method']}"
        method = methods().unary.get(path)
        if method is None:
            answer(_missing(path, methods()))
            return None
        metadata = joined((name.decode("latin-1"), _metadata(name, value)) for name, value in request.headers if name not in _HTTP_HEADERS)
        return method(message, Call(request.received_s, deadline, metadata, _peer(request)), answer)

    return (Route("POST", _PATH, call),)


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
    if len(body) < _FRAME.size:
        raise ProtocolError(f"The body has {len(body)} bytes: a frame begins with {_FRAME.size}, a flag and a length.")
    flag, length = _FRAME.unpack_from(body)
    if flag == _COMPRESSED:
        raise ProtocolError("Compressed messages are not taken.", Code.UNIMPLEMENTED)
    if flag:
        raise ProtocolError(f"The body begins with a frame of flag {flag:#04x}: expected 0x00, a message.")
    if length > max_bytes:
        raise ProtocolError(f"The message is larger than the {max_bytes} bytes this server takes.", Code.RESOURCE_EXHAUSTED)
    if length != len(body) - _FRAME.size:
        raise ProtocolError(f"The frame says its message has {length} bytes; {len(body) - _FRAME.size} follow. One message makes a call.")
    return body[_FRAME.size :]


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


def _missing(path: str, methods: Methods) -> Refusal:
    if path in methods.streams:
        return Refusal(Code.UNIMPLEMENTED, f"{printable(path, 128)} is a stream, which is served over gRPC only.")
    return Refusal(Code.UNIMPLEMENTED, f"There is no method {printable(path, 128)}.")


def _not_grpc_web(request: HttpRequest) -> NotFound:
    return NotFound(
        f"Nothing is at '{printable(request.path)}' but for gRPC-Web.",
        code="NO_SUCH_PATH",
        field="content-type",
        hint="Send application/grpc-web+proto here, or gRPC to the gRPC port.",
    )


def _response(result: bytes | Refusal, *, is_text: bool) -> HttpResponse:
    media = b"application/grpc-web-text+proto" if is_text else b"application/grpc-web+proto"
    if isinstance(result, Refusal):
        # Without a message the trailers are the headers.
        pairs = ((b"grpc-status", b"%d" % result.code), (b"grpc-message", percent_encoded(result.message)), *_encoded(result.trailers))
        return HttpResponse(200, b"", media, pairs)
    trailers = b"grpc-status: 0\r\ngrpc-message: \r\n"
    parts = (_FRAME.pack(0, len(result)), result, _FRAME.pack(_TRAILERS, len(trailers)), trailers)
    body = b"".join(parts)
    return HttpResponse(200, base64.b64encode(body) if is_text else body, media)


def _encoded(trailers: Iterable[tuple[str, str]]) -> Iterable[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), percent_encoded(value)) for name, value in trailers]


def percent_encoded(text: str) -> bytes:
    """As gRPC writes a status message: every byte outside of printable ASCII, and the percent sign, as %XX."""
    return quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode("ascii")
