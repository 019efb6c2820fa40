"""Requests on one connection: answered in their order and each for itself, however their bytes are cut into packets."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import Wires

from raw import GOOD_ANSWER, LIVEZ, LIVEZ_ANSWER, Client, predict, request
from towline.testing.server import RunningServer

SLOW = request("POST", "/v1/models/slow:predict", b'{"instances": [[1, 2, 3, 4, 5, 6, 7, 8]]}')
REFUSED = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    made.close()


def test_requests_in_one_packet_are_answered_in_their_order(server: RunningServer) -> None:
    with Client(server.port) as client:
        client.send(predict(b'{"instances": [[1, 2]]}') + LIVEZ + predict(b'{"instances": [[3, 4]]}') + predict(b"{") + LIVEZ)

        found = [client.answer() for _ in range(5)]

    assert [answer.status for answer in found] == [200, 200, 200, 400, 200]
    assert [found[0].body, found[1].body, found[2].body] == [b'{"predictions":[[1.0,2.0]]}', LIVEZ_ANSWER, b'{"predictions":[[3.0,4.0]]}']


def test_a_quick_answer_waits_for_the_slow_one_before_it(server: RunningServer) -> None:
    with Client(server.port) as client:
        client.send(SLOW + LIVEZ + predict() + SLOW + LIVEZ)

        bodies = [client.answer().body for _ in range(5)]

    assert bodies[1] == bodies[4] == LIVEZ_ANSWER
    assert bodies[2] == GOOD_ANSWER
    assert bodies[0] == bodies[3] != GOOD_ANSWER


def test_a_refusal_in_the_middle_comes_in_its_turn_and_ends_the_connection(server: RunningServer) -> None:
    with Client(server.port) as client:
        client.send(SLOW + LIVEZ + REFUSED + LIVEZ + predict())

        assert [answer.status for answer in client.answers()] == [200, 200, 400]


def test_thousands_of_requests_behind_a_slow_one_are_all_answered(wires: Wires, caplog: pytest.LogCaptureFixture) -> None:
    wire = wires.wire()
    wire.send(request("POST", "/later", b"first") + request("GET", "/echo") * 3000)
    assert wire.bodies() == []
    assert not wire.transport.is_reading

    wires.answer_next()

    assert wire.bodies() == [b"/later first", *[b"/echo "] * 3000]
    assert wire.transport.is_reading
    # Nor did one of them meet the bottom of the stack, and was answered none the less.
    assert caplog.records == []


def test_who_sends_its_body_without_waiting_is_not_told_to_send_it_afterwards(wires: Wires) -> None:
    wire = wires.wire()
    expecting = request("POST", "/echo", b"abc", "Expect: 100-continue")
    wire.send(request("POST", "/later", b"1") + expecting[:-1], expecting[-1:])

    wires.answer_next()
    wire.send(GET)

    assert wire.statuses() == [200, 200, 200]


def test_a_client_that_does_not_read_gets_no_further_answers_until_it_does(wires: Wires) -> None:
    wire = wires.wire()
    wire.protocol.pause_writing()
    wire.send(request("GET", "/echo") * 3)
    assert wire.bodies() == []
    assert not wire.transport.is_reading

    wire.protocol.resume_writing()

    assert wire.bodies() == [b"/echo "] * 3
    assert wire.transport.is_reading


def test_who_leaves_cancels_what_was_asked(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(request("POST", "/later", b"1") + request("POST", "/later", b"2"))

    wire.protocol.connection_lost(None)

    assert (len(wires.waiting), wires.cancelled) == (1, 1)
    wires.answer_next()
    assert wire.bodies() == []


def test_a_connection_that_is_gone_is_freed_without_the_collector(wires: Wires) -> None:
    """The front's collector rarely looks: what held itself would pile up with every client that comes and goes."""
    wire = wires.wire()
    wire.send(
        request("GET", "/echo"), request("POST", "/echo", b"abc"), request("POST", "/later", b"abc"), request("POST", "/echo", b"a")[:-1]
    )
    parts = [weakref.ref(wire.protocol), weakref.ref(wire.protocol._reader)]
    gc.disable()
    try:
        wire.protocol.connection_lost(None)
        wires.waiting.clear()
        del wire
        assert [part() for part in parts] == [None, None]
    finally:
        gc.enable()


# What the known head of the request before must not mislead

BODY = b"0123456789"
GET = request("GET", "/echo")
POST = request("POST", "/echo", BODY)
HEAD = POST.removesuffix(BODY)


@pytest.mark.parametrize(
    ("packets", "expected"),
    [
        ([POST, HEAD + b"abcdefghij"], [BODY, b"abcdefghij"]),
        ([POST, HEAD, b"abcdefghij"], [BODY, b"abcdefghij"]),
        ([POST, HEAD + b"abc", b"defghij"], [BODY, b"abcdefghij"]),
        ([POST, POST + POST], [BODY] * 3),
        ([POST, HEAD + HEAD[:10], POST], [BODY, HEAD[:10], BODY]),
        ([POST, HEAD + BODY[:9], b"x" + POST], [BODY, b"012345678x", BODY]),
        ([POST, POST + b"\r\n", POST], [BODY] * 3),
        ([POST, b"\r\n" + POST, POST], [BODY] * 3),
        ([POST, request("POST", "/echo", BODY, "X: y"), POST], [BODY] * 3),
        ([POST, request("POST", "/echo?", BODY), POST], [BODY] * 3),
        ([POST, request("POST", "/echo", b"0123456789x"), POST], [BODY, b"0123456789x", BODY]),
        ([POST, request("POST", "/echo", BODY, "x-request-id: a"), request("POST", "/echo", BODY, "x-request-id: b")], [BODY] * 3),
        ([HEAD + b"\r\n23456789\r\n", HEAD + b"\r\n23456789\r\n", HEAD + b"\r\n2345678", b"9"], [b"\r\n23456789"] * 3),
        ([HEAD + b"\r\n23456789\r\n", HEAD + b"\r\n23456789GE", GET.removeprefix(b"GE")], [b"\r\n23456789", b"\r\n23456789", b""]),
        ([GET + POST, POST, GET + POST], [b"", BODY, BODY, b"", BODY]),
        ([GET + POST, GET + POST], [b"", BODY, b"", BODY]),
    ],
)  # fmt: skip
def test_a_head_seen_before_misleads_nobody(wires: Wires, packets: list[bytes], expected: list[bytes]) -> None:
    # Of the first packet of a connection nothing is remembered.
    packets = [GET, *packets]
    wire = wires.wire()
    wire.send(*packets)

    fresh = wires.wire()
    for byte in b"".join(packets):
        fresh.send(bytes([byte]))
    assert wire.bodies() == fresh.bodies() == [b"/echo ", *[b"/echo " + body for body in expected]]


def test_the_same_head_again_is_not_parsed_and_gets_an_id_of_its_own(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(GET, POST)
    wire.protocol._reader.parser = None  # type: ignore[assignment]

    wire.send(HEAD + b"abcdefghij")

    assert wire.bodies()[-1] == b"/echo abcdefghij"
    assert len({answer.one("x-request-id") for answer in wire.answers()}) == 3


def test_the_same_head_again_waits_for_the_answer_before_it(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(GET, request("POST", "/later", b"1"))
    wires.answer_next()

    wire.send(request("POST", "/later", b"2"), request("POST", "/later", b"3"))

    assert len(wires.waiting) == 1
    wires.answer_next()
    wires.answer_next()
    assert wire.bodies() == [b"/echo ", b"/later 1", b"/later 2", b"/later 3"]


def test_an_id_or_a_trace_is_never_that_of_the_request_before(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(GET, POST)
    for number in (0, 1, 1):
        wire.send(request("POST", "/echo", BODY, f"x-request-id: id-{number}", f"traceparent: 00-{number + 1:032x}-{number + 1:016x}-01"))
    wire.send(POST)

    assert [answer.one("x-request-id") for answer in wire.answers()[2:5]] == ["id-0", "id-1", "id-1"]
    assert wire.answers()[4].one("traceparent") == f"00-{2:032x}-{2:016x}-01"
    assert wire.answers()[5].all("traceparent") == []
    assert wire.answers()[5].one("x-request-id").startswith("test-")


OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")


@pytest.mark.parametrize("size", [1, 40, 300_000])
def test_an_offer_to_speak_http_2_is_ignored_and_its_body_is_a_body(wires: Wires, size: int) -> None:
    """What Java's HttpClient and `curl --http2` send first. Were its body read as a request, it would be a smuggled one."""
    body = (request("GET", "/echo") * 8000)[:size]
    offered = request("POST", "/echo", body, *OFFER)
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body[:100])
    chunked = request("POST", "/echo", b"", "Transfer-Encoding: chunked", *OFFER) + pieces + b"0\r\n\r\n"
    wire = wires.wire()

    wire.send(offered + chunked + request("GET", "/echo", b"", *OFFER) + POST, offered, offered[:-1], offered[-1:], POST)

    shown = b"/echo " + body
    assert wire.bodies() == [shown, b"/echo " + body[:100], b"/echo ", b"/echo " + BODY, shown, shown, b"/echo " + BODY]


def test_nothing_follows_an_offer_on_a_connection_to_be_closed(wires: Wires) -> None:
    wire = wires.wire()

    wire.send(request("POST", "/echo", b"abc", "Connection: close, Upgrade", "Upgrade: h2c") + POST)

    assert wire.bodies() == [b"/echo abc"]
    assert wire.transport.is_over


def _chunked(body: bytes) -> bytes:
    middle = len(body) // 2
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:middle], body[middle:]) if piece)
    return request("POST", "/echo", b"", "Transfer-Encoding: chunked") + pieces + b"0\r\n\r\n"


REQUESTS = st.one_of(
    st.just(GET),
    st.just(request("GET", "/nowhere")),
    st.just(request("PUT", "/echo", b"x")),
    st.just(request("GET", "/echo", b"", "Connection: Upgrade", "Upgrade: h2c")),
    st.just(request("POST", "/echo", b"abc", "Connection: Upgrade", "Upgrade: websocket")),
    st.sampled_from([b"", b"0", b"0123456789", b"abcdefghij", b"\r\n\r\n", b"\r\n0\r\n\r\n", POST]).map(_chunked),
    st.sampled_from([b"0123456789", b"abcdefghij", b"\r\n\r\n\r\n\r\n\r\n", b"\r\n23456789", POST[:10], POST]).map(
        lambda body: request("POST", "/echo", body)
    ),
    st.sampled_from([b"\r\n", b"\r\n\r\n"]).map(lambda blank: blank + POST),
)
LAST = st.sampled_from([b"", REFUSED, b"\0", b"GET / HTTP/9.9\r\n\r\n", request("GET", "/echo", b"", "Connection: close"), POST[:-3]])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_cutting_of_the_bytes_into_packets_gets_the_same_answers(data: st.DataObject) -> None:
    """What one packet holds, and what was on the connection before, decides nothing: each request is answered as if it came alone."""
    requests = [GET, *data.draw(st.lists(REQUESTS, min_size=1, max_size=6)), data.draw(LAST)]
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    if data.draw(st.booleans()):
        # Where requests begin is where a remembered head matters.
        starts = [len(b"".join(requests[:index])) for index in range(len(requests))]
        cuts = sorted([*cuts, *starts])
    packets = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    wires = Wires()
    try:
        cut = wires.wire()
        cut.send(*packets)
        alone = []
        for one in requests:
            wire = wires.wire()
            wire.send(one)
            alone += [(answer.status, answer.body) for answer in wire.answers()]
    finally:
        wires.close()

    found = [(answer.status, answer.body) for answer in cut.answers()]
    assert _without_ids(found) == _without_ids(alone)


def _without_ids(answers: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    return [(status, body if status == 200 else body.partition(b'"request_id"')[0]) for status, body in answers]
