"""Errors in gRPC's words: one status code for each kind, and our own code and field beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from towline.core.errors import Kind, TowlineError
from towline.serve.protocols.errors import MAX_FIELD, message_of, printable
from towline.serve.protocols.grpc.contract import Code, Refusal

Statuses = Mapping[Kind, Code]
TF_SERVING: Statuses = {
    Kind.INVALID: Code.INVALID_ARGUMENT,
    # Not RESOURCE_EXHAUSTED, which clients take for a reason to try again.
    Kind.TOO_LARGE: Code.INVALID_ARGUMENT,
    Kind.UNSUPPORTED_MEDIA: Code.INVALID_ARGUMENT,
    Kind.WRONG_METHOD: Code.UNIMPLEMENTED,
    Kind.NOT_FOUND: Code.NOT_FOUND,
    Kind.CONFLICT: Code.ABORTED,
    Kind.UNAUTHENTICATED: Code.UNAUTHENTICATED,
    Kind.DENIED: Code.PERMISSION_DENIED,
    Kind.EXHAUSTED: Code.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: Code.UNAVAILABLE,
    Kind.DEADLINE: Code.DEADLINE_EXCEEDED,
    Kind.CANCELLED: Code.CANCELLED,
    Kind.OUT_OF_MEMORY: Code.RESOURCE_EXHAUSTED,
    Kind.UNSUPPORTED: Code.UNIMPLEMENTED,
    Kind.INTERNAL: Code.INTERNAL,
    Kind.USAGE: Code.INVALID_ARGUMENT,
    Kind.GATE: Code.FAILED_PRECONDITION,
    Kind.MISSING_EXTRA: Code.UNIMPLEMENTED,
    Kind.UNREACHABLE: Code.UNAVAILABLE,
}
# Triton calls a full queue UNAVAILABLE, as its REST API answers 503.
OPEN_INFERENCE: Statuses = {**TF_SERVING, Kind.EXHAUSTED: Code.UNAVAILABLE}

# TF Serving's gRPC answers these otherwise than its REST API.
_BY_CODE = {"UNKNOWN_SIGNATURE": Code.FAILED_PRECONDITION}
_RETRY = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


def refusal_of(error: TowlineError, statuses: Statuses) -> Refusal:
    """Status, text (message and hint, at most 1,200 characters), our code and field."""
    code = _BY_CODE.get(error.code) or statuses[error.kind]
    return Refusal(code, message_of(error), _trailers_of(error, code))


def _trailers_of(error: TowlineError, code: Code) -> tuple[tuple[str, str], ...]:
    """Our code and field, and when to come again in the header that gRPC's own retries obey."""
    found = [("towline-code", error.code)]
    if error.field:
        found.append(("towline-field", printable(error.field, MAX_FIELD)))
    if code in _RETRY and error.retry_after_s:
        found.append(("grpc-retry-pushback-ms", str(math.ceil(error.retry_after_s * 1000))))
    return tuple(found)
