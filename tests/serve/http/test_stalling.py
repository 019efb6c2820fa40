"""Threat T19: who stalls, wherever it does, is gone in time; who keeps pace stays, and nobody else waits."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from wire import Wires

from raw import GOOD_ANSWER, LIVEZ, Client, ask, is_well, predict, request
from towline.testing.server import RunningServer

BODY = b"x" * 100_000
HALF_A_HEAD = b"POST /echo HTTP/1.1\r\nHost: local"


@pytest.fixture
def wires() -> Iterator[Wires]:
    """header 10 s, idle 75 s, write 30 s, body 1024 bytes/s after 5 s: the defaults."""
    made = Wires()
    yield made
    made.close()


# Each in time that passes at the test's word


@pytest.mark.parametrize(
    ("start", "seconds", "statuses"),
    [
        (b"", 10, []),
        (b"\r\n", 10, []),
        (HALF_A_HEAD, 10, [408]),
        (request("POST", "/echo", BODY)[:-1], 5, [408]),
        (request("GET", "/echo"), 75, [200]),
        (request("GET", "/echo") + HALF_A_HEAD, 10, [200, 408]),
        (request("GET", "/echo") + b"\r\n\r\n", 75, [200]),
    ],
)
def test_a_client_that_stops_sending_is_let_go_in_time_and_not_before(
    wires: Wires, start: bytes, seconds: int, statuses: list[int]
) -> None:
    wire = wires.wire()
    wire.send(start)

    wires.pass_time(seconds - 2)
    assert not wire.transport.is_over
    assert not wire.transport.is_at_end
    wires.pass_time(4)

    assert wire.statuses() == statuses
    assert wire.transport.is_over or wire.transport.is_at_end


def test_a_refused_client_that_does_not_leave_is_left(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(b"\0")
    assert wire.statuses() == [400]
    wires.pass_time(4)
    assert wire.transport.is_over


def test_a_refused_client_that_never_stops_sending_is_left(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(b"\0")
    for _ in range(12):
        wire.send(BODY)
        wires.pass_time(1)
    assert wire.transport.is_over


def test_a_head_a_byte_at_a_time_gets_no_more_time(wires: Wires) -> None:
    wire = wires.wire()
    for byte in HALF_A_HEAD[:12]:
        wire.send(bytes([byte]))
        wires.pass_time(1)
    assert wire.statuses() == [408]


def test_a_body_that_keeps_pace_may_take_long_and_one_that_does_not_may_not(wires: Wires) -> None:
    steady, dripping = wires.wire(), wires.wire()
    for wire in (steady, dripping):
        wire.send(request("POST", "/echo", BODY)[: -len(BODY)])
    for second in range(60):
        steady.send(BODY[:1100])
        if second < 8:
            dripping.send(b"x")
        wires.pass_time(1)

    assert dripping.statuses() == [408]
    assert steady.statuses() == []
    steady.send(BODY[: -60 * 1100])
    assert steady.statuses() == [200]


def test_a_burst_buys_no_time_for_a_stall(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(request("POST", "/echo", BODY)[: -len(BODY)])
    wires.pass_time(2)
    wire.send(BODY[:-1])
    wires.pass_time(8)
    assert wire.statuses() == [408]


def test_who_does_not_take_its_answer_is_let_go_and_who_takes_it_slowly_is_not(wires: Wires) -> None:
    stalled, slow = wires.wire(), wires.wire()
    for wire in (stalled, slow):
        wire.transport.unwritten_bytes = 200_000
        wire.send(request("GET", "/echo"))
        wire.protocol.pause_writing()
    for _ in range(100):
        slow.transport.unwritten_bytes -= 1100
        wires.pass_time(1)

    assert stalled.transport.is_over
    assert not slow.transport.is_over
    slow.protocol.resume_writing()
    wires.pass_time(70)
    assert not slow.transport.is_over


def test_who_takes_a_byte_at_a_time_is_let_go(wires: Wires) -> None:
    wire = wires.wire()
    wire.transport.unwritten_bytes = 200_000
    wire.send(request("GET", "/echo"))
    wire.protocol.pause_writing()
    for _ in range(34):
        wire.transport.unwritten_bytes -= 1
        wires.pass_time(1)
    assert wire.transport.is_over


def test_who_waits_for_us_is_not_late(wires: Wires) -> None:
    waiting, lined_up = wires.wire(), wires.wire()
    waiting.send(request("POST", "/later", b"1"))
    lined_up.send(request("POST", "/later", b"2") + request("GET", "/echo") + HALF_A_HEAD)

    wires.pass_time(200)
    wires.answer_next()
    wires.answer_next()
    lined_up.send(b"host\r\nContent-Length: 1\r\n\r\nx")

    assert waiting.statuses() == [200]
    assert lined_up.statuses() == [200, 200, 200]


def test_a_timeout_behind_a_slow_answer_comes_in_its_turn(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(request("POST", "/later", b"1") + HALF_A_HEAD)
    wires.pass_time(20)
    assert wire.statuses() == []
    assert not wire.transport.is_over

    wires.answer_next()

    assert wire.statuses() == [200, 408]


# And all of it over sockets, with a server that waits three seconds


def test_the_stalled_are_evicted_while_good_clients_are_served(hasty: RunningServer) -> None:
    kinds = {
        "nothing": (b"", []),
        "half a head": (HALF_A_HEAD, [408]),
        "half a body": (predict()[:-1], [408]),
        "an idle connection": (LIVEZ, [200]),
        "an idle connection after a prediction": (predict(), [200]),
    }
    clients = {f"{kind} {number}": Client(hasty.port) for kind in kinds for number in range(6)}
    for name, client in clients.items():
        client.send(kinds[name[:-2]][0])
        client.socket.setblocking(False)

    stalled = dict(clients)

    def all_are_gone() -> bool:
        assert ask(hasty, predict()).body == GOOD_ANSWER
        for name in [name for name, client in stalled.items() if has_ended(client)]:
            del stalled[name]
        return not stalled

    hasty.wait_until(all_are_gone, timeout_s=60)
    for name, client in clients.items():
        assert [answer.status for answer in client.answers()] == kinds[name[:-2]][1], name
        client.socket.close()
    assert is_well(hasty)


def has_ended(client: Client) -> bool:
    """Whether the server has closed its side; what it said before is kept."""
    try:
        while client._more():
            pass
    except BlockingIOError:
        return False
    return True


def test_a_client_that_never_reads_is_evicted_and_its_answers_are_bounded(hasty: RunningServer) -> None:
    """It asks for far more than the sockets can hold; the server stops answering, and later gives it up."""
    before = hasty.rss_bytes(hasty.front_pid)
    rows = predict(json.dumps({"instances": [[1, 2]] * 256}).encode())
    with Client(hasty.port) as client:
        client.socket.settimeout(0.2)

        def is_evicted() -> bool:
            try:
                client.socket.send(rows * 16)
            except TimeoutError:
                # The server takes no more, for it cannot answer what it has.
                assert ask(hasty, LIVEZ).status == 200
            except ConnectionError:
                return True
            return False

        hasty.wait_until(is_evicted, timeout_s=60)
    assert hasty.rss_bytes(hasty.front_pid) - before < 32 << 20
    assert is_well(hasty)
