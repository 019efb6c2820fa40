"""What the decoder reads in the front's place: requests to models that hold more JSON than the event loop may be held by."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import pytest
from plane import Api, HonestPlane, version

from towline.core.config import Settings
from towline.serve.contract import HttpRequest, HttpResponse, Reply, Route, whole_body
from towline.serve.decoder.choice import MAX_OWN_BYTES, is_for_decoder
from towline.serve.protocols.exchange import Exchange
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.table import RouteTable
from towline.testing import tiny_models

PLANE = HonestPlane(version("numbers", tiny_models.identity()), version("words", tiny_models.identity("string")))
ROUTES = Api(PLANE)._table
LARGE = MAX_OWN_BYTES + 1


def exchange(path: str, size: int, body: bytes = b"", **headers: str) -> Exchange:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Exchange(
        "POST",
        headers=given,
        found=ROUTES.find(b"POST", path.encode()),
        body_bytes=size,
        parts=[body],
        is_coded="content_encoding" in headers,
    )


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/models/numbers:predict", {}),
        ("/v1/models/numbers:predict", {"content_type": "image/png"}),
        ("/v1/models/numbers:classify", {}),
        ("/v1/models/nobody:predict", {}),
        ("/v2/models/numbers/infer", {}),
        ("/v2/models/numbers/infer", {"inference_header_content_length": str(LARGE)}),
        ("/v2/models/numbers/generate", {}),
        ("/models/numbers/predict", {}),
        ("/models/numbers/predict", {"content_type": "multipart/form-data; boundary=b"}),
        ("/models/words/predict", {"content_type": "application/json"}),
    ],
)
def test_much_json_is_for_the_decoder(path: str, headers: dict[str, str]) -> None:
    assert is_for_decoder(exchange(path, LARGE, **headers))
    assert not is_for_decoder(exchange(path, MAX_OWN_BYTES, **headers))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v2/models/numbers/infer", {"inference_header_content_length": "300"}),
        ("/models/words/predict", {"content_type": "image/png"}),
        ("/models/words/predict", {"content_type": "multipart/form-data; boundary=b"}),
        ("/models/nobody/predict", {}),
        ("/v2/models/numbers/generate_nothing", {}),
        ("/v2/health/live", {}),
    ],
)
def test_what_is_no_json_or_refused_unread_is_the_fronts_own(path: str, headers: dict[str, str]) -> None:
    assert not is_for_decoder(exchange(path, LARGE, **headers))


@pytest.mark.parametrize(("plain_bytes", "is_large"), [(LARGE, True), (MAX_OWN_BYTES, False)])
@pytest.mark.parametrize(("coding", "window"), [("gzip", 31), ("deflate", 15)])
def test_a_coded_body_counts_as_what_it_is_decoded(plain_bytes: int, is_large: bool, coding: str, window: int) -> None:
    engine = zlib.compressobj(9, zlib.DEFLATED, window)
    body = engine.compress(b" " * plain_bytes) + engine.flush()

    assert is_for_decoder(exchange("/v1/models/numbers:predict", len(body), body, content_encoding=coding)) is is_large


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_coded_body_that_cannot_be_undone_is_refused_by_the_front(coding: str) -> None:
    assert not is_for_decoder(exchange("/v1/models/numbers:predict", 5000, b"x" * 5000, content_encoding=coding))


class Elsewhere:
    """Remembers what it was given to read."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def wants(self, exchange: Exchange) -> bool:
        return is_for_decoder(exchange)

    def take(self, exchange: Exchange, reply: Reply) -> Callable[[], None]:
        self.taken.append(exchange.body_bytes)
        reply(HttpResponse(200, b"{}"))
        return lambda: None


def test_the_front_itself_parses_no_body_of_more_than_it_may(wires_around: Callable[[Gate], object]) -> None:
    """Whatever the packets, and also when its head was seen before."""
    parsed: list[int] = []

    def parse(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        parsed.append(len(request.body))
        reply(HttpResponse(200, b"{}"))

    routes = RouteTable([Route("POST", "/predict", parse, json_size=whole_body)])
    gate = Gate(routes, Settings(), clock=lambda: 100.0, boot_id="test")
    gate.aside = elsewhere = Elsewhere()
    bomb = zlib.compress(b" " * (8 << 20))
    for body, header in ((b" " * LARGE, b""), (b" " * MAX_OWN_BYTES, b""), (b"{}", b""), (bomb, b"content-encoding: deflate\r\n")):
        head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n%b\r\n" % (len(body), header)
        wire = wires_around(gate)
        for _ in range(4):
            wire.data_received(head + body)  # type: ignore[attr-defined]
        wire.data_received(head)  # type: ignore[attr-defined]
        for start in range(0, len(body), 100_000):
            wire.data_received(body[start : start + 100_000])  # type: ignore[attr-defined]

    assert elsewhere.taken == [LARGE] * 5 + [len(bomb)] * 5
    assert parsed == [MAX_OWN_BYTES] * 5 + [2] * 5
