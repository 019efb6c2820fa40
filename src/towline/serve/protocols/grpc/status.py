"""Errors in gRPC's words: one status code for each kind, and our own code and field beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from grpc import StatusCode

from towline.core.errors import Kind, TowlineError
from towline.serve.protocols.errors import MAX_FIELD, message_of, printable

TF_SERVING: Mapping[Kind, StatusCode] = {
    Kind.INVALID: StatusCode.INVALID_ARGUMENT,
    # Not RESOURCE_EXHAUSTED, which clients take for a reason to try again.
    Kind.TOO_LARGE: StatusCode.INVALID_ARGUMENT,
    Kind.UNSUPPORTED_MEDIA: StatusCode.INVALID_ARGUMENT,
    Kind.WRONG_METHOD: StatusCode.UNIMPLEMENTED,
    Kind.NOT_FOUND: StatusCode.NOT_FOUND,
    Kind.CONFLICT: StatusCode.ABORTED,
    Kind.DENIED: StatusCode.PERMISSION_DENIED,
    Kind.EXHAUSTED: StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: StatusCode.UNAVAILABLE,
    Kind.DEADLINE: StatusCode.DEADLINE_EXCEEDED,
    Kind.CANCELLED: StatusCode.CANCELLED,
    Kind.OUT_OF_MEMORY: StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNSUPPORTED: StatusCode.UNIMPLEMENTED,
    Kind.INTERNAL: StatusCode.INTERNAL,
    Kind.USAGE: StatusCode.INVALID_ARGUMENT,
    Kind.GATE: StatusCode.FAILED_PRECONDITION,
    Kind.MISSING_EXTRA: StatusCode.UNIMPLEMENTED,
    Kind.UNREACHABLE: StatusCode.UNAVAILABLE,
}
# Triton calls a full queue UNAVAILABLE, as its REST API answers 503.
OPEN_INFERENCE: Mapping[Kind, StatusCode] = {**TF_SERVING, Kind.EXHAUSTED: StatusCode.UNAVAILABLE}

# TF Serving's gRPC answers these otherwise than its REST API.
_BY_CODE = {"UNKNOWN_SIGNATURE": StatusCode.FAILED_PRECONDITION}
_RETRY = (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED)


def status_of(error: TowlineError, table: Mapping[Kind, StatusCode]) -> StatusCode:
    return _BY_CODE.get(error.code) or table[error.kind]


def details_of(error: TowlineError) -> str:
    """The text that goes with a status: message and hint, at most 1,200 characters."""
    return message_of(error)


def trailers_of(error: TowlineError, status: StatusCode) -> tuple[tuple[str, str], ...]:
    """Our code and field, and when to come again in the header that gRPC's own retries obey."""
    found = [("towline-code", error.code)]
    if error.field:
        found.append(("towline-field", printable(error.field, MAX_FIELD)))
    if status in _RETRY and error.retry_after_s:
        found.append(("grpc-retry-pushback-ms", str(math.ceil(error.retry_after_s * 1000))))
    return tuple(found)
