"""Messages and memory between our own processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from towline.core import channel
from towline.core.arena import KEEP_BYTES, Arena
from towline.core.errors import TowlineError

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = channel.channel()
    with ours, theirs:
        yield ours, theirs


def test_a_message_arrives_whole_and_in_order(ends: Ends) -> None:
    for number in range(3):
        channel.send(ends[0], {"number": number})

    assert [channel.receive(ends[1]) for _ in range(3)] == [({"number": number}, []) for number in range(3)]


def test_a_message_too_large_for_a_datagram_arrives_all_the_same(ends: Ends) -> None:
    channel.send(ends[0], {"models": ["x" * 1000] * 500})

    assert channel.receive(ends[1]) == ({"models": ["x" * 1000] * 500}, [])


def test_descriptors_travel_with_their_message(ends: Ends) -> None:
    reading, writing = os.pipe()
    channel.send(ends[0], {"padding": "x" * channel.MAX_DATAGRAM_BYTES}, [writing])
    os.close(writing)
    message, (passed,) = channel.receive(ends[1]) or ({}, [])
    os.write(passed, b"through the other process")
    os.close(passed)

    assert len(message["padding"]) == channel.MAX_DATAGRAM_BYTES
    assert os.read(reading, 100) == b"through the other process"
    os.close(reading)


def test_the_end_of_the_other_side_is_told_from_a_message(ends: Ends) -> None:
    ends[0].close()

    assert channel.receive(ends[1]) is None


def test_garbage_is_refused_and_leaks_no_descriptor(ends: Ends) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reading, writing = os.pipe()
    socket.send_fds(ends[0], [b"not a message"], [reading])
    os.close(reading)
    os.close(writing)

    with pytest.raises(TowlineError, match="not a message"):
        channel.receive(ends[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_worker_sees_the_inputs_and_cannot_change_them() -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    front = Arena.create(slots=2, slot_bytes=page)
    inputs_fd, outputs_fd = front.worker_descriptors()
    worker = Arena(inputs_fd, os.dup(outputs_fd), slots=2, slot_bytes=page, is_worker=True)
    front.inputs[:5] = b"hello"
    worker.outputs[:5] = b"there"

    assert (worker.inputs[:5], front.outputs[:5]) == (b"hello", b"there")
    with pytest.raises(TypeError):
        worker.inputs[:1] = b"x"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(inputs_fd, b"x")
    for end in (worker, front):
        end.close()


def test_neither_side_can_make_the_other_die_by_shrinking_the_memory() -> None:
    arena = Arena.create(slots=1, slot_bytes=os.sysconf("SC_PAGE_SIZE"))
    for descriptor in (arena.inputs_fd, arena.outputs_fd):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
    arena.close()


def test_memory_beyond_what_a_slot_keeps_goes_back_to_the_system() -> None:
    arena = Arena.create(slots=1, slot_bytes=KEEP_BYTES + (8 << 20))
    used = KEEP_BYTES + (8 << 20)
    np.frombuffer(arena.inputs, np.uint8)[:] = 1
    arena.give_back(0, KEEP_BYTES)
    assert arena.inputs[used - 1] == 1

    arena.give_back(0, used)

    assert os.fstat(arena.inputs_fd).st_blocks * 512 <= KEEP_BYTES
    assert arena.inputs[KEEP_BYTES - 1] == 1
