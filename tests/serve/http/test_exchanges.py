"""One request and its answer over a real socket: methods, ids, traces, expectations, versions, and what ends a connection."""

from __future__ import annotations

import pytest

from raw import GOOD_ANSWER, GOOD_BODY, LIVEZ, LIVEZ_ANSWER, Client, ask, chunked, predict, request
from towline.testing.server import RunningServer

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# Ids and traces


@pytest.mark.parametrize("data", [LIVEZ, predict(), predict(b"{"), request("GET", "/nowhere"), request("PUT", "/livez"), b"\0"])
def test_every_answer_has_an_id_and_an_error_repeats_it(server: RunningServer, data: bytes) -> None:
    first, second = ask(server, data), ask(server, data)

    assert len(first.one("x-request-id")) >= 10
    assert first.one("x-request-id") != second.one("x-request-id")
    if first.status != 200 and isinstance(first.json()["error"], dict):
        assert first.json()["error"]["request_id"] == first.one("x-request-id")


@pytest.mark.parametrize("target", ["/livez", "/nowhere"])
def test_a_well_formed_id_and_trace_come_back(server: RunningServer, target: str) -> None:
    answer = ask(server, request("GET", target, b"", "X-Request-ID: order-17/3", f"Traceparent: {TRACE}"))

    assert answer.all("x-request-id") == ["order-17/3"]
    assert answer.all("traceparent") == [TRACE]


@pytest.mark.parametrize(
    "value", ["a b", "a;b", "<script>", '"', "a" * 129, "\xe9", "a,b", "%0d%0aset-cookie:x=1", "a\tb", ""], ids=lambda value: value[:12]
)
def test_an_id_that_is_not_well_formed_never_comes_back(server: RunningServer, value: str) -> None:
    answer = ask(server, request("GET", "/nowhere", b"", f"X-Request-ID: {value}"))

    (own,) = answer.all("x-request-id")
    assert own != value
    assert answer.json()["error"]["request_id"] == own
    assert answer.all("set-cookie") == []


@pytest.mark.parametrize(
    "value",
    [
        TRACE.upper(),
        TRACE[:-1],
        TRACE + "-x",
        TRACE + " x",
        "ff" + TRACE[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"{TRACE[:36]}{'0' * 16}-01",
    ],
)
def test_a_trace_that_is_not_well_formed_never_comes_back(server: RunningServer, value: str) -> None:
    assert ask(server, request("GET", "/livez", b"", f"traceparent: {value}")).all("traceparent") == []


def test_an_answer_says_what_it_is_and_names_no_software(server: RunningServer) -> None:
    answer = ask(server, predict())

    assert answer.one("content-type") == "application/json"
    assert answer.one("date").endswith(" GMT")
    assert answer.all("server") == []
    assert answer.all("connection") == []


# Methods


def test_head_is_answered_as_get_without_the_body(server: RunningServer) -> None:
    with Client(server.port) as client:
        client.send(request("HEAD", "/livez") + LIVEZ)

        head, body = client.answer(is_head=True), client.answer()

    assert (head.status, head.one("content-length"), head.body) == (200, str(len(LIVEZ_ANSWER)), b"")
    assert body.body == LIVEZ_ANSWER


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/livez", "GET"),
        ("DELETE", "/metrics", "GET"),
        ("GET", "/v2/models/m/infer", "POST"),
        ("PUT", "/v2/models/m/infer", "POST"),
        ("TRACE", "/v2/models/m/infer", "POST"),
        ("OPTIONS", "/models/m/predict", "POST"),
        ("HEAD", "/models/m/predict", "POST"),
        ("PATCH", "/predict", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(server: RunningServer, method: str, target: str, allowed: str) -> None:
    override = "X-HTTP-Method-Override: POST" if allowed == "POST" else "X-HTTP-Method-Override: GET"
    answer = ask(server, request(method, target, b"", override), is_head=method == "HEAD")

    assert (answer.status, answer.one("allow")) == (405, allowed)


@pytest.mark.parametrize("target", ["*", "/livez/", "//livez", "/./livez", "/livez%2f", "/LIVEZ", "/livez;x", "/livez#x", "/%6civez"])
def test_a_target_that_is_only_like_a_path_of_ours_is_none(server: RunningServer, target: str) -> None:
    assert ask(server, request("OPTIONS" if target == "*" else "GET", target)).status in (400, 404)


@pytest.mark.parametrize("target", ["http://localhost/livez", "http://127.0.0.1:8000/livez?x=1", "HTTP://[::1]/livez", "/livez?x=%00"])
def test_an_absolute_target_and_a_query_are_understood(server: RunningServer, target: str) -> None:
    assert ask(server, request("GET", target)).body == LIVEZ_ANSWER


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.0.0.1:99", "[::1]:8000"])
def test_the_names_of_loopback_are_answered_for(server: RunningServer, host: str) -> None:
    assert ask(server, request(host=host)).body == LIVEZ_ANSWER


# Expectations


def test_a_client_that_asks_whether_to_send_its_body_is_told_to(server: RunningServer) -> None:
    with Client(server.port) as client:
        for _ in range(2):
            assert client.ask(predict(GOOD_BODY, "Expect: 100-continue").removesuffix(GOOD_BODY)).status == 100
            assert client.ask(GOOD_BODY).body == GOOD_ANSWER


def test_it_is_not_told_so_before_the_answers_it_waits_for(server: RunningServer) -> None:
    slow = request("POST", "/v1/models/slow:predict", b'{"instances": [[1, 2, 3, 4, 5, 6, 7, 8]]}')
    with Client(server.port) as client:
        client.send(slow + predict(GOOD_BODY, "Expect: 100-continue").removesuffix(GOOD_BODY))

        assert [client.answer().status, client.answer().status] == [200, 100]
        assert client.ask(GOOD_BODY).body == GOOD_ANSWER


def test_a_body_that_is_too_large_is_refused_and_not_asked_for(server: RunningServer) -> None:
    assert ask(server, request("POST", "/predict", b"", "Expect: 100-continue", "Content-Length: 99999999")).status == 413


def test_an_expectation_nobody_knows_is_refused(server: RunningServer) -> None:
    assert ask(server, request("POST", "/predict", b"x", "Expect: miracles")).status == 417


# Versions, spaces, and the end of a connection


def test_http_1_0_is_answered_and_closed_also_without_a_host(server: RunningServer) -> None:
    for data in (b"GET /livez HTTP/1.0\r\n\r\n", b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"):
        with Client(server.port) as client:
            answer = client.ask(data)
            assert (answer.body, answer.one("connection")) == (LIVEZ_ANSWER, "close")
            assert client.is_closed()


def test_a_connection_serves_many_requests_and_closes_when_asked_to(server: RunningServer) -> None:
    with Client(server.port) as client:
        for _ in range(50):
            assert client.ask(predict()).body == GOOD_ANSWER
            assert client.ask(chunked(GOOD_BODY[:5], GOOD_BODY[5:])).body == GOOD_ANSWER
            assert client.ask(predict(b"[]")).status == 400
        last = client.ask(predict(GOOD_BODY, "Connection: close"))
        assert (last.body, last.one("connection")) == (GOOD_ANSWER, "close")
        assert client.is_closed()


def test_space_around_a_value_is_not_part_of_it(server: RunningServer) -> None:
    data = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: \t localhost \r\nContent-Length:  {len(GOOD_BODY)} \t\r\nX-Request-Id: a \r\n\r\n"

    answer = ask(server, data.encode() + GOOD_BODY)

    assert (answer.body, answer.one("x-request-id")) == (GOOD_ANSWER, "a")
