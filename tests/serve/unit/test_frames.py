"""Frames: whatever is written is read back, and whatever else is read raises FrameError and never reaches outside."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.core import dtypes
from towline.core.frames import (
    FrameError,
    FrameReader,
    FrameTooLarge,
    FrameWriter,
    decode_frame,
    encode_frame,
    read_frame,
    write_frame,
)

CAPACITY = 1 << 16
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=0, max_size=12)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = draw(st.sampled_from(dtypes.ALL))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    count = int(np.prod(shape))
    if dtype.name == "string":
        array = np.empty(count, dtype=object)
        array[:] = draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count))
        return array.reshape(shape)
    raw = draw(st.binary(min_size=count * dtype.size, max_size=count * dtype.size))
    return np.frombuffer(raw, dtype.numpy).reshape(shape)


TENSORS = st.dictionaries(NAMES, arrays(), max_size=4)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return list(one) == list(other) and all(
        one[name].shape == other[name].shape
        and one[name].dtype == other[name].dtype
        and (one[name].tolist() if one[name].dtype == object else one[name].tobytes())
        == (other[name].tolist() if other[name].dtype == object else other[name].tobytes())
        for name in one
    )


@settings(max_examples=150, derandomize=True, deadline=None)
@given(TENSORS)
def test_what_is_written_is_read_back_bit_for_bit(tensors: dict[str, np.ndarray]) -> None:
    assert same(decode_frame(encode_frame(tensors)), tensors)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.sampled_from(["float32", "int8", "string"]))
def test_parts_become_one_tensor_in_their_order(sizes: list[int], dtype: str) -> None:
    kind = object if dtype == "string" else dtype
    parts = [
        np.array([str(10 * n + row).encode() if dtype == "string" else 10 * n + row for row in range(size)], kind)
        for n, size in enumerate(sizes)
    ]
    buffer = bytearray(CAPACITY)
    write_frame(buffer, 0, CAPACITY, [("x", parts)])

    assert same(read_frame(bytes(buffer), 0, CAPACITY), {"x": np.concatenate(parts)})


def test_a_frame_that_does_not_fit_is_refused_and_nothing_outside_its_room_is_touched() -> None:
    buffer = bytearray(b"\xaa" * 4096)
    with pytest.raises(FrameTooLarge):
        write_frame(buffer, 1024, 512, [("x", [np.zeros(512, np.uint8)])])
    with pytest.raises(FrameTooLarge):
        write_frame(buffer, 1024, 512, [("n" * 600, [np.zeros(1, np.uint8)])])

    assert bytes(buffer[:1024]) == b"\xaa" * 1024
    assert bytes(buffer[1536:]) == b"\xaa" * 2560


FRAME = encode_frame(
    {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "name": np.array([b"one", b"", b"three"], dtype=object),
        "": np.array(7, np.int64),
    }
)


def read_fenced(frame: bytes) -> dict[str, np.ndarray] | None:
    """What a frame of that many bytes in the middle of others reads as; None when it is refused."""
    surrounded = b"\xee" * 512 + frame + b"\xee" * 512
    try:
        tensors = read_frame(surrounded, 512, len(frame))
    except FrameError:
        return None
    base = np.frombuffer(surrounded, np.uint8).ctypes.data + 512
    for array in tensors.values():
        if array.dtype != object and array.size:
            assert base <= array.ctypes.data, "begins before its frame"
            assert array.ctypes.data + array.nbytes <= base + len(frame), "ends behind its frame"
    return tensors


@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0x80, 0xFF])
def test_a_frame_with_any_byte_changed_reads_inside_itself_or_is_refused(value: int) -> None:
    refused = 0
    for at in range(len(FRAME)):
        mutated = FRAME[:at] + bytes([value]) + FRAME[at + 1 :]
        refused += read_fenced(mutated) is None

    assert refused > 20


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(FRAME) - 1), st.integers(0, 255)), min_size=2, max_size=12))
def test_a_frame_with_several_bytes_changed_reads_inside_itself_or_is_refused(changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(FRAME)
    for at, value in changes:
        mutated[at] = value

    read_fenced(bytes(mutated))


@pytest.mark.parametrize("size", range(0, len(FRAME), 7))
def test_a_torn_frame_is_refused(size: int) -> None:
    assert read_fenced(FRAME[:size]) is None


@pytest.mark.parametrize(
    ("place", "layout", "value"),
    [
        (4, "<I", 1 << 31),
        (8, "<Q", 2**64 - 1),
        (8, "<Q", 0),
        # The first record: its offset, its bytes, its first and second dim.
        (24, "<Q", 2**64 - 64),
        (24, "<Q", 1),
        (32, "<Q", 2**64 - 1),
        (40, "<Q", 2**63),
        (48, "<Q", 2**62),
    ],
)
def test_numbers_that_overflow_are_refused(place: int, layout: str, value: int) -> None:
    mutated = bytearray(FRAME)
    struct.pack_into(layout, mutated, place, value)

    assert read_fenced(bytes(mutated)) is None


def test_many_empty_tensors_with_huge_dims_cost_nothing() -> None:
    frame = bytearray(encode_frame({"x": np.zeros((0, 5), np.float32)}))
    struct.pack_into("<Q", frame, 48, 2**40)

    assert read_fenced(bytes(frame)) is None or read_fenced(bytes(frame))["x"].size == 0  # type: ignore[index]


# Writer and reader remember what they did; nobody may tell by what comes out.


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, CAPACITY) as mapping:
        yield mapping


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), st.dictionaries(st.sampled_from(["x", "y"]), arrays(), min_size=1, max_size=2)),
        st.tuples(st.just("batch"), st.lists(st.integers(1, 4), min_size=1, max_size=4)),
        st.tuples(st.just("error"), st.binary(min_size=1, max_size=200)),
        st.tuples(st.just("too large"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=120, derandomize=True, deadline=None)
@given(STEPS)
def test_a_writer_and_a_reader_that_remember_give_what_those_that_do_not_give(steps: list[tuple[str, Any]]) -> None:
    with mmap.mmap(-1, CAPACITY) as mapping:
        writer, reader = FrameWriter(mapping, 64, 4096), FrameReader(mapping, 64, 4096)
        for number, (kind, content) in enumerate(steps):
            if kind == "error":
                # As a worker reports one: in the place of the frame.
                writer.forget()
                mapping[64 : 64 + len(content)] = content
                continue
            if kind == "too large":
                with pytest.raises(FrameTooLarge):
                    writer.write([{"x": np.zeros(5000, np.uint8)}])
                continue
            layout = None
            if kind == "frame":
                parts = [content]
            else:
                parts = [{"x": np.full((rows, 3), number, np.float32)} for rows in content]
                layout = sum(content)
            tensors = [(name, [part[name] for part in parts]) for name in parts[0]]
            fresh = bytearray(CAPACITY)
            assert writer.write(parts, layout) == write_frame(fresh, 64, 4096, tensors)
            assert same(reader.read(), read_frame(bytes(fresh), 64, 4096))
            assert same(read_frame(mapping, 64, 4096), read_frame(bytes(fresh), 64, 4096))
        # The views end before the mapping they look into.
        del writer, reader


def test_a_reader_reads_the_new_data_under_an_unchanged_head(memory: mmap.mmap) -> None:
    writer, reader = FrameWriter(memory, 0, CAPACITY), FrameReader(memory, 0, CAPACITY)
    for value in (1, 2, 3):
        writer.write([{"x": np.full((2, 2), value, np.float32), "s": np.array([str(value).encode()], dtype=object)}])
        got = reader.read()
        assert (got["x"].tolist(), got["s"].tolist()) == ([[value] * 2] * 2, [str(value).encode()])
    del got, writer, reader


def test_a_reader_checks_again_when_the_head_was_changed_behind_its_back(memory: mmap.mmap) -> None:
    writer, reader = FrameWriter(memory, 0, CAPACITY), FrameReader(memory, 0, CAPACITY)
    writer.write([{"x": np.zeros((2, 2), np.float32)}])
    reader.read()
    memory[24:32] = struct.pack("<Q", 2**63)

    with pytest.raises(FrameError):
        reader.read()
    del writer, reader


def test_a_writer_that_is_told_of_another_hand_writes_its_head_again(memory: mmap.mmap) -> None:
    writer, reader = FrameWriter(memory, 0, CAPACITY), FrameReader(memory, 0, CAPACITY)
    for value in (1, 2, 3):
        writer.write([{"x": np.full((2, 2), value, np.float32)}])
        assert reader.read()["x"].tolist() == [[value] * 2] * 2
        memory[0:40] = b'{"code": "ENGINE_REFUSED"} and some more'
        writer.forget()
    del writer, reader
