"""Messages and descriptors between our own processes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator

import pytest

from towline.core import channel
from towline.core.errors import TowlineError

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = channel.channel()
    with one, other:
        yield one, other


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", [0, 1, channel.MAX_DATAGRAM_BYTES - 10, channel.MAX_DATAGRAM_BYTES, 60_001, 3_000_000])
def test_a_message_of_any_size_arrives_whole(ends: Ends, size: int) -> None:
    before = open_descriptors()
    channel.send(ends[0], {"text": "x" * size, "umlaut": "ä"})

    assert channel.receive(ends[1]) == ({"text": "x" * size, "umlaut": "ä"}, [])
    assert open_descriptors() == before


def test_messages_arrive_one_by_one_in_their_order(ends: Ends) -> None:
    for number in range(20):
        channel.send(ends[0], {"number": number, "padding": "x" * (70_000 if number % 5 == 0 else 5)})

    assert [channel.receive(ends[1])[0]["number"] for _ in range(20)] == list(range(20))  # type: ignore[index]


@pytest.mark.parametrize("padding", [5, 70_000])
def test_descriptors_travel_along_and_are_the_same_files(ends: Ends, padding: int) -> None:
    reading, writing = os.pipe()
    try:
        channel.send(ends[0], {"padding": "x" * padding}, [writing])
        received = channel.receive(ends[1])
        assert received is not None
        (copy,) = received[1]
        assert not os.get_inheritable(copy)
        os.write(copy, b"hello")
        os.close(copy)
        assert os.read(reading, 5) == b"hello"
    finally:
        os.close(reading)
        os.close(writing)


def test_as_many_descriptors_as_allowed_arrive_beside_a_large_message(ends: Ends) -> None:
    pipes = [os.pipe() for _ in range(channel.MAX_DESCRIPTORS // 2)]
    sent = [end for pipe in pipes for end in pipe]
    channel.send(ends[0], {"padding": "x" * 70_000}, sent)
    received = channel.receive(ends[1])

    assert received is not None
    assert len(received[1]) == channel.MAX_DESCRIPTORS
    for descriptor in (*sent, *received[1]):
        os.close(descriptor)


def test_the_end_of_the_other_side_is_told(ends: Ends) -> None:
    ends[0].close()

    assert channel.receive(ends[1]) is None
    with pytest.raises(OSError):
        channel.send(ends[1], {})


def test_the_last_words_of_an_end_that_went_without_reading_are_heard(ends: Ends) -> None:
    channel.send(ends[1], {"never": "read"})
    channel.send(ends[0], {"do": "fatal"})
    ends[0].close()

    assert channel.receive(ends[1]) == ({"do": "fatal"}, [])
    assert channel.receive(ends[1]) is None


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"{", b"no json", b'{"a": 1} trailing', b"[1, 2]", b"3", b'"text"', b"null", b"[" * 50_000])
def test_what_is_no_message_is_refused_and_its_descriptors_are_closed(ends: Ends, raw: bytes) -> None:
    before = open_descriptors()
    reading, writing = os.pipe()
    socket.send_fds(ends[0], [raw], [writing])
    with pytest.raises(TowlineError) as refused:
        channel.receive(ends[1])
    os.close(reading)
    os.close(writing)

    assert refused.value.code == "BAD_MESSAGE"
    assert open_descriptors() == before


def test_a_message_that_only_says_it_was_spilled_is_a_message_like_any(ends: Ends) -> None:
    ends[0].send(b'{"spilled": true}')

    assert channel.receive(ends[1]) == ({"spilled": True}, [])


def test_a_spilled_message_larger_than_any_of_ours_is_refused_without_reading_it_all(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_MESSAGE_BYTES", 100_000)
    channel.send(ends[0], {"text": "x" * 200_000})

    with pytest.raises(TowlineError):
        channel.receive(ends[1])


def test_nothing_to_read_on_an_end_that_does_not_wait_is_said_so(ends: Ends) -> None:
    ends[1].setblocking(False)

    with pytest.raises(BlockingIOError):
        channel.receive(ends[1])


def send_until_full(end: socket.socket) -> None:
    for _ in range(100_000):
        channel.send(end, {"padding": "x" * 70_000})


def test_a_full_channel_refuses_rather_than_waits_and_loses_no_descriptor(ends: Ends) -> None:
    ends[0].setblocking(False)
    before = open_descriptors()
    with pytest.raises(BlockingIOError):
        send_until_full(ends[0])

    # What is in flight belongs to the kernel.
    assert open_descriptors() == before
    assert json.dumps(channel.receive(ends[1])[0]).startswith('{"padding"')  # type: ignore[index]
