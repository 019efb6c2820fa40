"""What every protocol reads from a request before its body: content coding and deadline. Pure."""

from __future__ import annotations

from towline.core.errors import InvalidRequest
from towline.serve.codecs import compression
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpRequest

# Milliseconds the caller is willing to wait, from when its request began to arrive.
TIMEOUT_HEADER = b"x-request-timeout-ms"
MAX_TIMEOUT_MS = 86_400_000


def read(request: HttpRequest, limits: Limits) -> tuple[bytes, float | None]:
    """The decoded body and the deadline (monotonic seconds) the caller asked for, if any. One pass over the headers."""
    if request.is_plain:
        return request.body, None
    coding = b""
    deadline = None
    for name, value in request.headers:
        if name == b"content-encoding":
            # Two headers are a list of two codings, which is refused.
            coding = coding + b"," + value if coding else value
        elif name == TIMEOUT_HEADER:
            deadline = request.received_s + _timeout_ms(value) / 1000
    body = request.body
    if coding:
        body = compression.decompress(body, coding, limits.max_request_bytes)
    return body, deadline


def _timeout_ms(value: bytes) -> int:
    if not value.isdigit() or len(value) > 8 or not 1 <= int(value) <= MAX_TIMEOUT_MS:
        raise InvalidRequest(
            f"X-Request-Timeout-Ms must be a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS}.",
            code="BAD_HEADER",
            field="x-request-timeout-ms",
        )
    return int(value)
