"""The end of a server: every complete request is answered, then it goes, in time and with the right code."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bad_inputs import MODELS
from ended import await_end
from wire import Wires

from raw import GOOD_ANSWER, GOOD_BODY, LIVEZ, LIVEZ_ANSWER, Client, predict, request
from towline.testing import tiny_models
from towline.testing.server import RunningServer

SLOW = request("POST", "/v1/models/slow:predict", b'{"instances": [[1, 2, 3, 4, 5, 6, 7, 8]]}')

# Of a server that lets nobody go by itself: what ends a client's wait is the end of the drain.
PATIENT = {"header_timeout_s": 3600, "write_timeout_s": 3600, "min_body_bytes_per_s": 0}


@pytest.fixture
def home(imported: Callable[..., Path]) -> Path:
    """A store with `m` and `slow`, which takes about half a second."""
    return imported(m=MODELS["m"], slow=tiny_models.slow(rounds=40_000, width=8))


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    made.close()


def test_on_sigterm_every_complete_request_is_answered_and_idle_clients_are_let_go(home: Path) -> None:
    with RunningServer("m", "slow", home=home, settings={"drain_timeout_s": 600}) as server, ExitStack() as clients:
        idle, unused, busy, pipelined, torn = (clients.enter_context(Client(server.port)) for _ in range(5))
        assert idle.ask(LIVEZ).status == 200
        busy.send(SLOW)
        pipelined.send(SLOW + predict() + LIVEZ)
        torn.send(predict(GOOD_BODY)[:-3])
        # The worker of `slow` has the first two by then: another connection's answer came after they were read.
        assert answers_another(server)
        pids = everyone(server)

        server.send_signal(signal.SIGTERM)
        server.wait_until(lambda: "Stopping" in server.log())
        torn.send(GOOD_BODY[-3:])

        assert busy.answer().status == 200
        assert busy.is_closed()
        first, second, third = pipelined.answer(), pipelined.answer(), pipelined.answer()
        assert (first.status, second.body, third.body) == (200, GOOD_ANSWER, LIVEZ_ANSWER)
        assert third.one("connection") == "close"
        assert torn.answer().body == GOOD_ANSWER
        assert idle.is_closed()
        assert unused.is_closed()
        # Long before the time that a drain may take.
        assert server.wait() == 0
        assert "Traceback" not in server.log()
        await_end(pids)


def everyone(server: RunningServer) -> list[int]:
    return [pid for pids in server.pids().values() for pid in pids]


def send_until_it_is_stuck(client: Client) -> None:
    """Nothing is read, so that in the end the server can write no more, and takes no more."""
    client.socket.settimeout(0.5)
    try:
        while True:
            client.send(LIVEZ * 1000)
    except TimeoutError:
        return


def answers_another(server: RunningServer) -> bool:
    with Client(server.port) as client:
        return client.ask(predict()).body == GOOD_ANSWER


def test_a_request_that_never_comes_whole_does_not_hold_the_end_up(home: Path) -> None:
    settings = {**PATIENT, "drain_timeout_s": 2}
    with RunningServer("m", home=home, settings=settings) as server, Client(server.port) as half_a_head, Client(server.port) as half_a_body:
        half_a_head.send(LIVEZ[:-5])
        half_a_body.send(predict()[:-1])
        assert answers_another(server)

        assert server.stop(signal.SIGTERM) == 0


def test_a_client_that_does_not_read_does_not_hold_the_end_up(home: Path) -> None:
    with RunningServer("m", home=home, settings={**PATIENT, "drain_timeout_s": 2}) as server, Client(server.port) as client:
        send_until_it_is_stuck(client)

        assert server.stop(signal.SIGTERM) == 0


def test_a_second_sigterm_ends_it_at_once(home: Path) -> None:
    with RunningServer("m", "slow", home=home, settings={"drain_timeout_s": 600}) as server, Client(server.port) as client:
        # Minutes of work.
        client.send(SLOW * 500)
        assert answers_another(server)
        server.send_signal(signal.SIGTERM)
        server.wait_until(lambda: "Stopping" in server.log())

        assert server.stop(signal.SIGTERM) == 1


def test_an_interrupt_drains_too_and_says_so_in_its_code(home: Path) -> None:
    with RunningServer("m", "slow", home=home) as server, Client(server.port) as client:
        client.send(SLOW)
        assert answers_another(server)
        server.send_signal(signal.SIGINT)
        assert client.answer().status == 200
        assert server.wait() == 130


def test_readiness_goes_before_answers_do(home: Path) -> None:
    ready = request("GET", "/readyz")
    with RunningServer("m", home=home, settings={**PATIENT, "drain_timeout_s": 600}) as server, ExitStack() as clients:
        # Whoever is in the middle of a request is waited for: the test says when these are whole.
        busy, *probes = (clients.enter_context(Client(server.port)) for _ in range(101))
        assert probes[0].ask(ready).status == 200
        busy.send(predict()[:-1])
        for probe in probes:
            probe.send(ready[:-1])
        assert answers_another(server)
        server.send_signal(signal.SIGTERM)
        server.wait_until(lambda: "Stopping" in server.log())

        for probe in probes:
            probe.send(ready[-1:])
            answer = probe.answer()
            if answer.status == 503:
                break
            # The front has not heard of it yet.
            time.sleep(0.1)

        assert (answer.status, answer.json()["status"], answer.one("connection")) == (503, "draining", "close")
        for probe in probes:
            probe.socket.close()
        busy.send(predict()[-1:])
        assert busy.answer().status == 200
        assert server.wait() == 0


def test_no_process_is_left_when_the_supervisor_is_killed(home: Path) -> None:
    server = RunningServer("m", "slow", home=home)
    try:
        server.start()
        pids = everyone(server)
        assert len(pids) >= 6
        server.send_signal(signal.SIGKILL)
        server.wait()
        await_end(pids)
    finally:
        server.close()


# Order and rest while draining, on the wire


def test_a_draining_connection_ends_after_its_last_request_and_not_before(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(request("POST", "/later", b"1") + request("GET", "/echo") + request("POST", "/later", b"2"))
    wire.protocol.shutdown()

    wires.answer_next()
    assert not wire.transport.is_over
    wires.answer_next()

    assert wire.bodies() == [b"/later 1", b"/echo ", b"/later 2"]
    assert [answer.all("connection") for answer in wire.answers()] == [[], [], ["close"]]
    assert wire.transport.is_over


def test_requests_in_one_packet_are_all_answered_while_draining(wires: Wires) -> None:
    wire = wires.wire()
    wires.gate.is_draining = True
    wire.send(request("GET", "/echo") * 3)

    assert wire.bodies() == [b"/echo "] * 3
    assert [answer.all("connection") for answer in wire.answers()] == [[], [], ["close"]]
    assert wire.transport.is_over


def test_half_a_request_is_waited_for_while_draining(wires: Wires) -> None:
    wire = wires.wire()
    post = request("POST", "/echo", b"abc")
    wire.send(request("GET", "/echo"), post[:20])
    wire.protocol.shutdown()
    pass_loop_time(wires, 0.5)
    assert not wire.transport.is_over

    wire.send(post[20:])

    pass_loop_time(wires, 0.5)
    assert wire.bodies() == [b"/echo ", b"/echo abc"]
    assert wire.transport.is_over


def test_half_a_request_behind_one_that_is_answered_is_waited_for_too(wires: Wires) -> None:
    wire = wires.wire()
    post = request("POST", "/echo", b"abc")
    wire.send(request("POST", "/later", b"1") + post[:-1])
    wire.protocol.shutdown()

    wires.answer_next()
    assert not wire.transport.is_over
    wire.send(post[-1:])

    assert wire.bodies() == [b"/later 1", b"/echo abc"]


@pytest.mark.parametrize("before", [b"", b"\r\n", request("GET", "/echo"), request("GET", "/echo") + b"\r\n\r\n"])
def test_an_idle_connection_gets_a_moment_and_is_closed(wires: Wires, before: bytes) -> None:
    silent, quick = wires.wire(), wires.wire()
    for wire in (silent, quick):
        wire.send(before)
    for wire in (silent, quick):
        wire.protocol.shutdown()

    quick.send(request("POST", "/later", b"just in time"))
    pass_loop_time(wires, 0.5)
    assert silent.transport.is_over
    assert not quick.transport.is_over
    wires.answer_next()

    assert quick.bodies()[-1] == b"/later just in time"
    assert quick.transport.is_over


def pass_loop_time(wires: Wires, seconds: float) -> None:
    wires.loop.call_later(seconds, wires.loop.stop)
    wires.loop.run_forever()
