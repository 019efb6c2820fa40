"""Shared memory of front and worker: the worker reads inputs, writes outputs, and can harm neither."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from towline.core.arena import KEEP_BYTES, Arena

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(slots=2, slot_bytes=4 * PAGE)
    yield made
    made.close()


@pytest.fixture
def worker(arena: Arena) -> Iterator[Arena]:
    inputs, outputs = arena.worker_descriptors()
    mapped = Arena(inputs, os.dup(outputs), slots=2, slot_bytes=4 * PAGE, is_worker=True)
    yield mapped
    mapped.close()


def test_what_the_front_writes_the_worker_reads_and_the_other_way_round(arena: Arena, worker: Arena) -> None:
    arena.inputs[0:5] = b"hello"
    worker.outputs[PAGE : PAGE + 5] = b"world"

    assert (worker.inputs[0:5], arena.outputs[PAGE : PAGE + 5]) == (b"hello", b"world")


def test_the_worker_can_neither_write_inputs_nor_map_them_to_be_written(worker: Arena) -> None:
    with pytest.raises(TypeError):
        worker.inputs[0:1] = b"x"
    with pytest.raises(PermissionError):
        mmap.mmap(worker.inputs_fd, 4 * PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(OSError) as refused:
        os.write(worker.inputs_fd, b"x")
    assert refused.value.errno == errno.EBADF


@pytest.mark.parametrize("which", ["inputs_fd", "outputs_fd"])
@pytest.mark.parametrize("size", [0, PAGE, 1 << 30])
def test_nobody_can_change_the_size_and_so_make_the_other_die_of_it(worker: Arena, which: str, size: int) -> None:
    with pytest.raises(OSError):
        os.ftruncate(getattr(worker, which), size)
    with pytest.raises(OSError):
        fcntl.fcntl(getattr(worker, which), fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_large_arena_costs_only_the_pages_that_are_written() -> None:
    made = Arena.create(slots=16, slot_bytes=1 << 30)
    try:
        made.inputs[0:10] = b"0123456789"
        assert os.fstat(made.inputs_fd).st_size == 16 << 30
        assert os.fstat(made.inputs_fd).st_blocks * 512 <= 64 * PAGE
    finally:
        made.close()


def test_pages_beyond_what_a_slot_keeps_go_back_to_the_system() -> None:
    slot_bytes = KEEP_BYTES + (8 << 20)
    made = Arena.create(slots=2, slot_bytes=slot_bytes)
    try:
        made.inputs[slot_bytes : slot_bytes + slot_bytes] = b"x" * slot_bytes
        made.inputs[0:4] = b"mine"
        held = os.fstat(made.inputs_fd).st_blocks * 512
        made.give_back(1, slot_bytes)

        assert held - os.fstat(made.inputs_fd).st_blocks * 512 == 8 << 20
        assert made.inputs[slot_bytes : slot_bytes + 1] == b"x"
        assert made.inputs[0:4] == b"mine"
        made.give_back(0, 4)
        assert made.inputs[0:4] == b"mine"
    finally:
        made.close()


def test_closing_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = Arena.create(slots=2, slot_bytes=PAGE)
    made.close()

    assert len(os.listdir("/proc/self/fd")) == before
