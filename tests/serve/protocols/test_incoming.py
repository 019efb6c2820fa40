"""What every protocol reads before the body: the coding, whole, and the caller's deadline."""

from __future__ import annotations

import gzip

import pytest

from towline.core.errors import Kind, TowlineError
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpRequest
from towline.serve.protocols import incoming


def request(body: bytes, *headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest("POST", "/predict", "", list(headers), body, 10.0)


def test_two_content_encoding_headers_are_two_codings() -> None:
    body = gzip.compress(gzip.compress(b"{}"))
    with pytest.raises(TowlineError) as caught:
        incoming.read(request(body, (b"content-encoding", b"gzip"), (b"content-encoding", b"gzip")), Limits())
    assert caught.value.kind is Kind.UNSUPPORTED_MEDIA


def test_the_deadline_counts_from_when_the_request_began_to_arrive() -> None:
    assert incoming.read(request(b"{}", (b"x-request-timeout-ms", b"1500")), Limits()) == (b"{}", 11.5)
    assert incoming.read(request(b"{}"), Limits()) == (b"{}", None)


@pytest.mark.parametrize("value", [b"0", b"-1", b"1.5", b"", b"9" * 5000, b"86400001", b"\xb2"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(value: bytes) -> None:
    with pytest.raises(TowlineError) as caught:
        incoming.read(request(b"{}", (b"x-request-timeout-ms", value)), Limits())
    assert caught.value.field == "x-request-timeout-ms"
