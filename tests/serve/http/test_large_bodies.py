"""Large binary bodies: written where they go with no copy in between, and answered as any other, whatever comes before, behind or never."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest
from wire import Wires

from raw import LIVEZ, LIVEZ_ANSWER, Answer, Client, request
from towline.serve.protocols.filling import MIN_BYTES, BodyFiller
from towline.testing import tiny_models
from towline.testing.server import RunningServer

BODY = bytes(range(256)) * 1024
ECHO = b"/fill " + BODY


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    made.close()


def fill(body: bytes = BODY, *headers: str) -> bytes:
    return request("POST", "/fill", body, *headers)


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """`data` in packets of the given sizes, and one of the rest."""
    packets = []
    for size in sizes:
        packets.append(data[:size])
        data = data[size:]
    return [*packets, data]


# How a body is received


def test_only_what_came_with_the_head_passes_the_parser(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(fill()[:1000])
    assert isinstance(wire.transport.get_protocol(), BodyFiller)
    parser = wire.protocol._reader.parser
    wire.send(fill()[1000:])

    assert wire.bodies() == [ECHO]
    # The parser that saw the head never saw the end of its body.
    assert wire.protocol._reader.parser is not parser
    assert wire.transport.get_protocol() is wire.protocol


def test_the_handler_is_given_the_buffer_that_was_written_to(wires: Wires) -> None:
    wire = wires.wire()
    bodies: list[object] = []
    echo = wires.gate.handle
    wires.gate.handle = lambda found, asked, reply: (bodies.append(asked.body), echo(found, asked, reply))[1]  # type: ignore[method-assign]
    wire.send(fill()[:1000])
    told = wire.transport.get_protocol()
    assert isinstance(told, BodyFiller)
    room = np.frombuffer(told.get_buffer(-1), np.uint8)
    wire.send(fill()[1000:])

    (body,) = bodies
    assert isinstance(body, memoryview)
    assert np.shares_memory(room, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("before", [0, 1, 63, 64, 1001])
def test_what_follows_the_json_begins_where_any_array_may(wires: Wires, before: int) -> None:
    addresses = []

    def look(found: object, asked: object, reply: object) -> None:
        addresses.append(np.frombuffer(asked.body, np.uint8)[before:].ctypes.data)  # type: ignore[attr-defined]

    wires.gate.handle = look  # type: ignore[assignment, method-assign]
    wires.wire().send(*cut(fill(BODY, f"Inference-Header-Content-Length: {before}"), 200))

    assert [address % 64 for address in addresses] == [0]


@pytest.mark.parametrize(
    "data",
    [
        fill(BODY[: MIN_BYTES - 1]),
        request("POST", "/echo", BODY),
        request("POST", "/fill", b"", "Transfer-Encoding: chunked") + b"40000\r\n" + BODY + b"\r\n0\r\n\r\n",
        fill(BODY, "Connection: close"),
    ],
    ids=["small", "for another route", "in chunks", "the last of its connection"],
)
def test_other_bodies_are_read_by_the_parser(wires: Wires, data: bytes) -> None:
    wire = wires.wire()
    half = len(data) - 1000
    wire.send(data[:half])
    assert wire.transport.get_protocol() is wire.protocol
    wire.send(data[half:])

    assert wire.statuses() == [200]
    assert wire.bodies()[0].endswith(data[-1000:] if b"chunked" not in data[:200] else BODY[-1000:])


# What comes around it


@pytest.mark.parametrize("sizes", [(), (40,), (90,), (200,), (200, 1, 1), (len(fill()) - 1,), (len(fill()),), (200, 100_000)])
def test_a_body_in_any_packets_is_whole_and_so_is_what_follows(wires: Wires, sizes: tuple[int, ...]) -> None:
    wire = wires.wire()
    wire.send(*cut(fill() + request("GET", "/echo") + fill() + request("GET", "/echo"), *sizes))

    assert wire.bodies() == [ECHO, b"/echo ", ECHO, b"/echo "]
    assert wires.gate.held_bytes == 0


def test_an_answer_that_is_due_before_goes_out_before(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(*cut(request("POST", "/later", b"x") + fill(), 300))
    assert wire.bodies() == []
    wires.answer_next()

    assert wire.bodies() == [b"/later x", ECHO]


def test_the_last_byte_is_waited_for(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(*cut(fill(), 300)[:1], fill()[300:-1])
    assert wire.bodies() == []
    wire.send(fill()[-1:])
    assert wire.bodies() == [ECHO]


# What goes wrong


def test_a_client_that_stalls_in_it_is_let_go(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(fill()[:1000], fill()[1000:2000])
    wires.pass_time(10)

    assert wire.statuses() == [408]
    assert wires.gate.held_bytes == 0
    wire.send(BODY)
    assert wire.statuses() == [408]


def test_a_client_that_goes_leaves_nothing_behind(wires: Wires) -> None:
    wire = wires.wire()
    wire.send(fill()[:1000], fill()[1000:2000])
    assert wires.gate.held_bytes > 0
    told = wire.transport.get_protocol()
    assert isinstance(told, BodyFiller)
    told.connection_lost(None)

    assert wires.gate.held_bytes == 0
    assert wires.gate.connections == set()
    assert wires.seen == []


def test_all_bodies_together_are_bounded_as_they_arrive() -> None:
    wires = Wires(max_waiting_bytes=300_000)
    first, second = wires.wire(), wires.wire()
    first.send(*cut(fill(), 1000)[:1], fill()[1000:-1])
    second.send(*cut(fill(), 1000)[:1], fill()[1000:-1])
    wires.close()

    assert (first.statuses(), second.statuses()) == ([], [503])


def test_a_body_announced_and_not_sent_takes_no_memory() -> None:
    """Memory is the kernel's until it is written to: 64 clients announce 4 GiB."""
    wires = Wires(max_request_bytes=64 << 20)
    before = _resident_bytes()
    held = [wires.wire() for _ in range(64)]
    for wire in held:
        wire.send(request("POST", "/fill", b"", f"Content-Length: {64 << 20}") + b"x")
    grown = _resident_bytes() - before
    wires.close()

    assert all(isinstance(wire.transport.get_protocol(), BodyFiller) for wire in held)
    assert grown < 64 << 20


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


# Over a socket


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serves `wide`, which gives back what it gets."""
    model = tiny_models.write(tmp_path_factory.mktemp("models"), tiny_models.identity(shape=("N", 50_000)), "wide.onnx")
    with RunningServer(model) as running:
        yield running


def infer(values: np.ndarray, *, as_binary: bool = True) -> bytes:
    item = {"name": "x", "shape": list(values.shape), "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    head = json.dumps({"inputs": [item], "parameters": {"binary_data_output": as_binary}}).encode()
    return request("POST", "/v2/models/wide/infer", head + values.tobytes(), f"Inference-Header-Content-Length: {len(head)}")


def output(answer: Answer) -> np.ndarray:
    length = int(answer.one("inference-header-content-length"))
    return np.frombuffer(answer.body[length:], np.float32)


def test_large_tensors_come_back_as_they_went_one_after_another(wide: RunningServer) -> None:
    batches = [np.random.default_rng(seed).random((seed + 1, 50_000), np.float32) for seed in range(4)]
    with Client(wide.port) as client:
        client.send(b"".join(infer(batch) + LIVEZ for batch in batches))
        for batch in batches:
            np.testing.assert_array_equal(output(client.answer()), batch.reshape(-1))
            assert client.answer().body == LIVEZ_ANSWER


def test_large_tensors_of_many_clients_do_not_mix(wide: RunningServer) -> None:
    async def ask(number: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", wide.port)
        for turn in range(5):
            sent = np.full((1, 50_000), number * 10 + turn, np.float32)
            writer.write(infer(sent))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
            answered = await reader.readexactly(length)
            if np.frombuffer(answered[-sent.nbytes :], np.float32).tolist() != sent.reshape(-1).tolist():
                return False
        writer.close()
        return True

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*map(ask, range(8)))

    assert asyncio.run(all_of_them()) == [True] * 8


def test_a_large_body_that_is_no_request_is_refused_and_the_connection_goes_on(wide: RunningServer) -> None:
    values = np.zeros((1, 40_000), np.float32)
    with Client(wide.port) as client:
        assert client.ask(infer(values)).status == 400
        assert client.ask(infer(np.ones((1, 50_000), np.float32))).status == 200
