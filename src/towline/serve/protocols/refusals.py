"""What the HTTP layer itself refuses, in one catalogue, and the answers. Pure."""

from __future__ import annotations

from towline.core.config import Settings
from towline.core.errors import Kind, TowlineError
from towline.serve.contract import HttpRequest, HttpResponse
from towline.serve.protocols.errors import own_error

# Statuses that only the HTTP layer itself gives; the rest follow from the error's kind.
_STATUS_OF_CODE = {"HEADERS_TOO_LARGE": 431, "REQUEST_TIMEOUT": 408, "MISDIRECTED": 421, "EXPECTATION_FAILED": 417}


def response_to(error: TowlineError, request_id: bytes = b"") -> HttpResponse:
    response = own_error(error, HttpRequest("", "", "", [], b"", id=request_id))
    response.status = _STATUS_OF_CODE.get(error.code, response.status)
    return response


def bad_request(message: str, field: str = "") -> TowlineError:
    return TowlineError(message, code="BAD_REQUEST", kind=Kind.INVALID, field=field)


def not_http() -> TowlineError:
    return bad_request("This is not an HTTP/1.1 request.")


def wrong_version() -> TowlineError:
    return bad_request("This server speaks HTTP/1.1 and HTTP/1.0.")


def wrong_transfer_encoding() -> TowlineError:
    return bad_request("The only transfer-encoding taken is 'chunked', once, in HTTP/1.1.", "transfer-encoding")


def too_finely_chunked() -> TowlineError:
    return bad_request("The body comes in too many chunks, or with too much beside them.", "transfer-encoding")


def unreadable() -> TowlineError:
    return TowlineError("The request could not be read.")


def unknown_expectation() -> TowlineError:
    return TowlineError("The only expectation met is '100-continue'.", code="EXPECTATION_FAILED", kind=Kind.INVALID, field="expect")


def misdirected(field: str) -> TowlineError:
    return TowlineError(
        "This server does not answer for that host.",
        code="MISDIRECTED",
        kind=Kind.INVALID,
        field=field,
        hint="Name the host in the setting allowed_hosts.",
    )


def headers_too_large(limits: Settings) -> TowlineError:
    return TowlineError(
        f"The request's head is larger than {limits.max_header_bytes} bytes or {limits.max_headers} headers.",
        code="HEADERS_TOO_LARGE",
        kind=Kind.TOO_LARGE,
    )


def body_too_large(limits: Settings) -> TowlineError:
    return TowlineError(
        f"The body is larger than the {limits.max_request_bytes} bytes this server takes.", code="BODY_TOO_LARGE", kind=Kind.TOO_LARGE
    )


def too_many_bytes() -> TowlineError:
    return TowlineError(
        "The server holds as many unfinished requests as it has room for.", code="TOO_MANY_BYTES", kind=Kind.UNAVAILABLE, retry_after_s=1.0
    )


def too_many_connections() -> TowlineError:
    return TowlineError("Too many connections.", code="TOO_MANY_CONNECTIONS", kind=Kind.UNAVAILABLE, retry_after_s=1.0)


def request_timeout() -> TowlineError:
    return TowlineError("The request did not arrive in time.", code="REQUEST_TIMEOUT", kind=Kind.DEADLINE)
