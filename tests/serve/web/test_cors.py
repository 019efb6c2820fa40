"""Pages of other origins get no allow headers, unless `cors_origins` names theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from towline.core.config import load_settings
from towline.core.errors import UsageError
from towline.testing import tiny_models
from towline.testing.server import RunningServer

FRIEND = "https://shop.example.org"
BODY = b'{"instances": [[1, 2]]}'
PREDICT = "/v1/models/m:predict"
MODEL = tiny_models.identity()


@pytest.fixture(scope="module")
def closed(imported: Callable[..., Path]) -> Iterator[RunningServer]:
    with RunningServer("m", home=imported(m=MODEL)) as running:
        yield running


@pytest.fixture(scope="module")
def friendly(imported: Callable[..., Path]) -> Iterator[RunningServer]:
    with RunningServer("m", home=imported(m=MODEL), settings={"cors_origins": f"{FRIEND}, http://localhost:3000"}) as running:
        yield running


def ask(server: RunningServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str]]:
    connection = HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        got = connection.getresponse()
        got.read()
        return got.status, {name.lower(): value for name, value in got.headers.items()}
    finally:
        connection.close()


def allows(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


def test_by_default_no_origin_is_allowed_anything(closed: RunningServer) -> None:
    for origin in (FRIEND, "null", "http://127.0.0.1"):
        status, headers = ask(closed, "POST", PREDICT, BODY, origin=origin)
        assert (status, allows(headers)) == (200, {})
        status, headers = ask(closed, "OPTIONS", PREDICT, origin=origin, access_control_request_method="POST")
        # TF Serving's answer to a wrong verb.
        assert (status, allows(headers)) == (400, {})


def test_a_named_origin_may_read_answers_and_errors(friendly: RunningServer) -> None:
    for body, expected in ((BODY, 200), (b"{", 400)):
        status, headers = ask(friendly, "POST", PREDICT, body, origin=FRIEND)
        assert status == expected
        assert headers["access-control-allow-origin"] == FRIEND
        assert "grpc-status" in headers["access-control-expose-headers"]
        assert headers["vary"] == "origin"
    # The same head again, and then without an origin: nothing is remembered for others.
    assert allows(ask(friendly, "POST", PREDICT, BODY)[1]) == {}


def test_a_page_is_told_what_it_may_send(friendly: RunningServer) -> None:
    asked = "content-type,x-grpc-web, X-User-Agent,grpc-timeout"
    for path in (PREDICT, "/inference.GRPCInferenceService/ModelInfer", "/nothing/here"):
        status, headers = ask(
            friendly, "OPTIONS", path, origin=FRIEND, access_control_request_method="POST", access_control_request_headers=asked
        )
        assert status == 200
        assert headers["access-control-allow-origin"] == FRIEND
        assert {"content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "authorization"} <= set(
            headers["access-control-allow-headers"].split(", ")
        )


@pytest.mark.parametrize(
    ("origin", "asked"),
    [
        ("https://evil.example.org", "content-type"),
        ("null", "content-type"),
        (f"{FRIEND}.evil.org", "content-type"),
        (FRIEND, "content-type, x-forwarded-for"),
        (FRIEND.upper(), "content-type"),
    ],
)
def test_a_foreign_origin_or_an_unlisted_header_gets_no_allow_headers(friendly: RunningServer, origin: str, asked: str) -> None:
    status, headers = ask(
        friendly, "OPTIONS", PREDICT, origin=origin, access_control_request_method="POST", access_control_request_headers=asked
    )
    assert (status, allows(headers)) == (403, {})


def test_any_origin_but_null_when_the_setting_says_so(imported: Callable[..., Path]) -> None:
    with RunningServer("m", home=imported(m=MODEL), settings={"cors_origins": "*"}) as server:
        assert ask(server, "POST", PREDICT, BODY, origin="https://any.example.org")[1]["access-control-allow-origin"] == "*"
        assert allows(ask(server, "POST", PREDICT, BODY, origin="null")[1]) == {}


@pytest.mark.parametrize("value", ["example.org", "https://example.org/", "https://", "ht tp://x", "https://a.org, b"])
def test_a_setting_that_names_no_origin_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="is no origin"):
        load_settings({"cors_origins": value}, {}, None)
