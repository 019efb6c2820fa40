"""Errors in each protocol's own words: one table of HTTP codes and one body shape each. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from towline.core.errors import InvalidRequest, Kind, TowlineError
from towline.serve.codecs.json import dumps
from towline.serve.contract import HttpRequest, HttpResponse

MAX_MESSAGE = 1200
MAX_FIELD = 128

# `/predict` and everything else that is our own.
OWN = {
    Kind.INVALID: 400,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED_MEDIA: 415,
    Kind.WRONG_METHOD: 405,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.UNAUTHENTICATED: 401,
    Kind.DENIED: 403,
    Kind.EXHAUSTED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.DEADLINE: 504,
    Kind.CANCELLED: 499,
    Kind.OUT_OF_MEMORY: 507,
    Kind.UNSUPPORTED: 501,
    Kind.INTERNAL: 500,
    Kind.USAGE: 400,
    Kind.GATE: 409,
    Kind.MISSING_EXTRA: 501,
    Kind.UNREACHABLE: 503,
}
# TF Serving answers a wrong verb with 400.
TF_SERVING = {**OWN, Kind.WRONG_METHOD: 400}
# Triton knows 404, 501, 503, 500 and 400 only; what HTTP itself demands, and what a client can act on, keeps its code.
OPEN_INFERENCE = {**OWN, Kind.EXHAUSTED: 503, Kind.CONFLICT: 400, Kind.GATE: 400, Kind.DENIED: 403}

_RETRY = (429, 503)


def own_error(error: TowlineError, request: HttpRequest | None = None) -> HttpResponse:
    """`{"error": {"code", "message", "field", "request_id"}}`."""
    body = {
        "error": {
            "code": error.code,
            "message": message_of(error),
            "field": error.field[:MAX_FIELD],
            "request_id": request_id(request) if request else "",
        }
    }
    return _response(OWN[error.kind], body, error)


def tf_serving_error(error: TowlineError) -> HttpResponse:
    """`{"error": "<message>"}`, with our code and field beside it: TF Serving's clients read only the first."""
    return _response(TF_SERVING[error.kind], _flat(error), error)


def open_inference_error(error: TowlineError) -> HttpResponse:
    return _response(OPEN_INFERENCE[error.kind], _flat(error), error)


def wrong_method(method: str, allowed: Iterable[str]) -> TowlineError:
    names = ", ".join(allowed)
    return InvalidRequest(f"This path takes {names}, not {printable(method, 16)}.", code="WRONG_METHOD", kind=Kind.WRONG_METHOD)


def allowing(response: HttpResponse, allowed: Iterable[str]) -> HttpResponse:
    """The response with an Allow header, which every 405 must have."""
    allow = (b"allow", ", ".join(allowed).encode())
    return HttpResponse(response.status, response.body, response.content_type, (*response.headers, allow), refusal=response.refusal)


def message_of(error: TowlineError) -> str:
    text = f"{error.message} {error.hint}" if error.hint else error.message
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def printable(text: str, limit: int = 64) -> str:
    """Text from outside as it may be repeated: printable ASCII, short."""
    shown = "".join(char if " " < char < "\x7f" else "?" for char in text[:limit])
    return shown if len(text) <= limit else shown[:-1] + "…"


def request_id(request: HttpRequest) -> str:
    return printable(request.id.decode("latin-1"), 128)


def _flat(error: TowlineError) -> dict[str, str]:
    return {"error": message_of(error), "code": error.code, "field": error.field[:MAX_FIELD]}


def _response(status: int, body: object, error: TowlineError) -> HttpResponse:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if status in _RETRY:
        wait_s = max(1, math.ceil(error.retry_after_s or 1))
        headers = ((b"retry-after", str(wait_s).encode()),)
    if status == 401:
        # A 401 must say how to do better (RFC 9110, 15.5.2).
        headers = ((b"www-authenticate", b"Bearer"),)
    return HttpResponse(status, dumps(body), headers=headers, refusal="" if error.is_counted else error.code)
