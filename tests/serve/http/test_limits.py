"""Sizes: of the head, of the body as it arrives, of what comes beside it, and of all bodies together."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from bad_inputs import MAX_REQUEST_BYTES
from wire import Wires

from raw import GOOD_ANSWER, GOOD_BODY, LIVEZ, Client, all_answers, ask, chunked, is_well, keeps_at_most, predict, request
from towline.core.config import Settings
from towline.testing.server import RunningServer

MIB = 1 << 20


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires(max_request_bytes=4096, max_waiting_bytes=MIB)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("a head of 10 MB in one header", request("GET", "/livez", b"", "X: " + "a" * 10_000_000), 431),
        ("20,000 headers", request("GET", "/livez", b"", *["X: y"] * 20_000), 431),
        ("101 headers", request("GET", "/livez", b"", *["X: y"] * 100), 431),
        ("a head of 10 MB that does not end", request("GET", "/livez", b"", "X: " + "a" * 10_000_000).removesuffix(b"\r\n\r\n"), 431),
        ("a target of a megabyte", request("GET", "/" + "a" * MIB), 431),
        ("a name of a megabyte", request("GET", "/livez", b"", "a" * MIB + ": x"), 431),
        ("65,537 chunks of one byte", chunked(*[b"0"] * 65_537), 400),
        ("a chunk extension of 10 MB", chunked()[:-5] + b"1;" + b"a" * 10_000_000, 400),
        ("a trailer of 10 MB", chunked()[:-2] + b"T: " + b"a" * 10_000_000, 400),
        ("a million trailers", chunked()[:-2] + b"T: x\r\n" * 1_000_000, 400),
        ("empty lines without end", b"\r\n" * 5_000_000, 431),
    ],
)
def test_what_is_too_large_beside_the_body_is_refused_and_not_kept(server: RunningServer, name: str, data: bytes, status: int) -> None:
    code = {431: "HEADERS_TOO_LARGE", 400: "BAD_REQUEST"}[status]
    assert [(answer.status, answer.code) for answer in all_answers(server, data)] == [(status, code)]
    assert keeps_at_most(server, MIB, lambda: all_answers(server, data))
    assert is_well(server)


def test_as_many_headers_and_chunks_as_are_allowed_pass(server: RunningServer) -> None:
    headers = [f"X-{number}: {'v' * 200}" for number in range(Settings.max_headers - 1)]
    assert ask(server, request("GET", "/livez", b"", *headers)).status == 200

    spaced = GOOD_BODY + b" " * (65_535 - len(GOOD_BODY))
    assert ask(server, chunked(*[b"%c" % byte for byte in spaced])).body == GOOD_ANSWER


def test_trailers_are_read_past_and_are_no_headers(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire.send(b"3\r\nabc\r\n0\r\nHost: evil.example\r\nContent-Encoding: gzip\r\nx-request-id: trailer\r\n\r\n")

    assert wire.bodies() == [b"/echo abc"]
    assert [name for name, _ in wires.seen[0].headers] == [b"host", b"transfer-encoding"]
    assert wires.seen[0].id != b"trailer"


def test_a_body_in_thousands_of_packets_takes_no_more_room_than_its_bytes() -> None:
    wires = Wires()
    body = bytes(range(1, 256)) * 200
    tracemalloc.start()
    try:
        wire = wires.wire()
        wire.send(request("POST", "/later", body)[: -len(body)])
        before = tracemalloc.get_traced_memory()[0]
        wire.send(*(body[at : at + 2] for at in range(0, len(body) - 2, 2)))
        grown = tracemalloc.get_traced_memory()[0] - before
        wire.send(body[-2:])
    finally:
        tracemalloc.stop()
        wires.close()
    assert grown < 3 * len(body)
    assert wires.seen[0].body == body
    assert isinstance(wires.seen[0].body, bytes)


def test_a_body_whose_length_is_over_the_limit_is_refused_before_it_is_read(server: RunningServer) -> None:
    with Client(server.port) as client:
        client.send(request("POST", "/v1/models/m:predict", b"", f"Content-Length: {MAX_REQUEST_BYTES + 1}"))

        answer = client.answer()

        assert (answer.status, answer.code, answer.one("connection")) == (413, "BODY_TOO_LARGE", "close")
        assert str(MAX_REQUEST_BYTES) in answer.json()["error"]["message"]
        assert client.is_closed()


def test_a_body_of_the_limit_passes_and_one_byte_more_does_not(server: RunningServer) -> None:
    padding = b" " * (MAX_REQUEST_BYTES - len(GOOD_BODY))

    assert ask(server, predict(GOOD_BODY + padding)).body == GOOD_ANSWER
    assert ask(server, predict(GOOD_BODY + padding + b" ")).code == "BODY_TOO_LARGE"
    assert ask(server, chunked(GOOD_BODY, padding)).body == GOOD_ANSWER
    assert ask(server, chunked(GOOD_BODY, padding, b" ")).code == "BODY_TOO_LARGE"


def test_a_client_that_goes_on_sending_can_read_why_it_is_refused(server: RunningServer) -> None:
    """It sends 64 MiB before it looks: were the connection cut, the answer would be lost with it."""
    for start in (
        request("POST", "/v1/models/m:predict", b"", f"Content-Length: {64 * MIB}"),
        request("POST", "/v1/models/m:predict", b"", "Transfer-Encoding: chunked") + b"%x\r\n" % (64 * MIB),
    ):
        with Client(server.port) as client:
            client.send(start)
            for _ in range(64):
                client.send(b" " * MIB)
            assert client.answer().code == "BODY_TOO_LARGE"


def test_a_small_body_that_unpacks_to_more_than_the_limit_is_refused(server: RunningServer) -> None:
    bomb = gzip.compress(bytes(1000 * MIB // 4), 9)
    assert len(bomb) < MAX_REQUEST_BYTES

    answer = ask(server, predict(bomb, "Content-Encoding: gzip"))

    assert (answer.status, answer.code) == (413, "BODY_TOO_LARGE")
    assert keeps_at_most(server, MIB, lambda: ask(server, predict(bomb, "Content-Encoding: gzip")))


def test_the_bodies_that_are_arriving_on_all_connections_have_a_bound_together(wires: Wires) -> None:
    half = request("POST", "/echo", b"x" * 4096)[:-1]
    many = [wires.wire() for _ in range(MIB // 4000)]
    for wire in many:
        wire.send(half)
    refused = [wire for wire in many if wire.statuses()]
    assert refused
    assert {answer.status for wire in refused for answer in wire.answers()} == {503}
    assert refused[0].answers()[0].one("retry-after") == "1"
    kept = [wire for wire in many if not wire.statuses()]
    assert len(kept) * 4095 > MIB - 8192

    for wire in kept[::2]:
        wire.protocol.connection_lost(None)
    for wire in kept[1::2]:
        wire.send(b"x")

    assert all(wire.statuses() == [200] for wire in kept[1::2])
    assert wires.gate.held_bytes == 0
    late = wires.wire()
    late.send(half, b"x")
    assert late.statuses() == [200]


def test_a_body_that_waits_for_the_answer_before_its_own_is_counted_until_it_is_its_turn(wires: Wires) -> None:
    wire = wires.wire()
    body = request("POST", "/echo", b"x" * 4096)
    wire.send(request("POST", "/later", b"1"), body[:-1], body[-1:])
    assert wires.gate.held_bytes == 4095

    wires.answer_next()

    assert wires.gate.held_bytes == 0


def test_connections_over_the_limit_are_told_so_and_those_within_it_served(hasty: RunningServer) -> None:
    clients = [Client(hasty.port) for _ in range(40)]
    try:
        assert clients[0].ask(LIVEZ).status == 200
        with Client(hasty.port) as excess:
            answer = excess.answer()
            assert (answer.status, answer.code) == (503, "TOO_MANY_CONNECTIONS")
            assert int(answer.one("retry-after")) >= 1
        assert clients[0].ask(predict()).body == GOOD_ANSWER
    finally:
        for client in clients:
            client.socket.close()
    hasty.wait_until(hasty.is_ready)


def test_a_flood_of_connections_is_not_told_one_by_one() -> None:
    wires = Wires(max_connections=1)
    try:
        first, *others = [wires.wire() for _ in range(300)]

        assert {status for wire in others for status in wire.statuses()} == {503}
        assert sum(1 for wire in others if wire.transport.is_over and not wire.statuses()) == 300 - 1 - 256
        first.send(request("GET", "/echo"))
        assert first.statuses() == [200]
    finally:
        wires.close()


def test_many_clients_that_send_too_much_at_once_harm_nobody(server: RunningServer) -> None:
    def send() -> None:
        all_answers(server, request("POST", "/v1/models/m:predict", b"", f"Content-Length: {64 * MIB}") + b" " * (8 * MIB))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert is_well(server)
    for thread in threads:
        thread.join(60)
