"""The one layout of named tensors: what is written is read, and whoever wrote it is not believed."""

from __future__ import annotations

import mmap
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from towline.core import dtypes
from towline.core.frames import (
    FrameError,
    FrameReader,
    FrameTooLarge,
    FrameWriter,
    decode_frame,
    encode_frame,
    read_frame,
    unpack_strings,
    write_frame,
)

ROOM = 1 << 16


def arrays(dtype: dtypes.DType) -> st.SearchStrategy[np.ndarray]:
    shape = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    if dtype.size:
        return hnp.arrays(dtype.numpy, shape)
    return hnp.arrays(object, shape, elements=st.binary(max_size=20), fill=st.nothing())


tensors = st.dictionaries(st.text(min_size=1, max_size=12), st.sampled_from(dtypes.ALL).flatmap(arrays), max_size=4)


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and (first[name].tobytes() == second[name].tobytes() if first[name].dtype != object else (first[name] == second[name]).all())
        for name in first
    )


@pytest.fixture
def buffer() -> mmap.mmap:
    return mmap.mmap(-1, 4 * ROOM)


@settings(max_examples=150, deadline=None)
@given(tensors)
def test_what_is_written_is_read(given_tensors: dict[str, np.ndarray]) -> None:
    assert equal(decode_frame(encode_frame(given_tensors)), given_tensors)


def test_the_rows_of_several_requests_become_one_tensor(buffer: mmap.mmap) -> None:
    parts = [np.full((rows, 3), rows, np.float32) for rows in (1, 2, 3)]
    write_frame(buffer, ROOM, ROOM, [("x", parts)])

    np.testing.assert_array_equal(read_frame(buffer, ROOM, ROOM)["x"], np.concatenate(parts))


def test_reading_numbers_copies_nothing(buffer: mmap.mmap) -> None:
    write_frame(buffer, 0, ROOM, [("x", [np.zeros(4, np.float32)])])
    view = read_frame(buffer, 0, ROOM)["x"]
    buffer[0:ROOM] = b"\x01" * ROOM

    assert view.tobytes() == b"\x01" * 16


@pytest.mark.parametrize("size", [0, 10, 64, 4 * 1000])
def test_tensors_larger_than_the_room_are_refused_and_touch_nothing_behind_it(buffer: mmap.mmap, size: int) -> None:
    with pytest.raises(FrameTooLarge):
        write_frame(buffer, 0, size, [("x", [np.ones(1000, np.float32)])])
    assert buffer[size : 4 * ROOM] == bytes(4 * ROOM - size)


def test_a_type_no_frame_carries_is_named(buffer: mmap.mmap) -> None:
    with pytest.raises(FrameError, match="'x' has a type no frame carries: complex64"):
        write_frame(buffer, 0, ROOM, [("x", [np.zeros(1, np.complex64)])])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_changed_frame_is_refused_or_stays_within_its_buffer(data: st.DataObject) -> None:
    raw = bytearray(encode_frame({"x": np.arange(12, dtype=np.float32).reshape(3, 4), "s": np.array([b"ab", b""], dtype=object)}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_frame(bytes(raw))
    except FrameError:
        return
    assert sum(array.nbytes for array in found.values() if array.dtype != object) <= len(raw)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_raise_only_frame_errors(raw: bytes) -> None:
    with pytest.raises(FrameError):
        decode_frame(raw)


@pytest.mark.parametrize("dims", [(2**63, 2), (2**32, 2**32), (2**64 - 1,)])
def test_dims_whose_product_overflows_are_not_believed(dims: tuple[int, ...]) -> None:
    raw = bytearray(encode_frame({"x": np.zeros((2,) * len(dims), np.uint8)}))
    struct.pack_into(f"<{len(dims)}Q", raw, 16 + 24, *dims)

    with pytest.raises(FrameError):
        decode_frame(bytes(raw))


@pytest.mark.parametrize("packed", [b"", b"\x05\0\0\0ab", b"\xff\xff\xff\xff", b"\x01\0\0\0ab"])
def test_torn_strings_are_refused(packed: bytes) -> None:
    with pytest.raises(FrameError):
        unpack_strings(packed, 1)


layouts = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), st.lists(st.integers(1, 3), min_size=1, max_size=3)),
        st.tuples(st.just("wide"), st.integers(1, 5)),
        st.tuples(st.just("strings"), st.lists(st.binary(max_size=5), min_size=1, max_size=3)),
        st.tuples(st.just("forget"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(layouts)
def test_remembered_layouts_change_nothing(steps: list[tuple[str, Any]]) -> None:
    buffer = mmap.mmap(-1, 2 * ROOM)
    writer, reader = FrameWriter(buffer, ROOM, ROOM), FrameReader(buffer, ROOM, ROOM)
    for count, (kind, value) in enumerate(steps):
        if kind == "forget":
            buffer[ROOM : ROOM + 100] = b"an error was written here" * 4
            writer.forget()
            with pytest.raises(FrameError):
                reader.read()
            continue
        if kind == "rows":
            given_tensors = [("x", [np.full((rows, 4), count + rows, np.float32) for rows in value])]
            layout = sum(value) if len({len(value)}) == 1 else None
        elif kind == "wide":
            given_tensors = [("x", [np.full((1, value), count, np.int64)]), ("y", [np.full(value, count, np.uint8)])]
            layout = None
        else:
            given_tensors = [("s", [np.array(value, dtype=object)])]
            layout = None
        writer.write(given_tensors, ("rows", layout) if layout else None)

        expected = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in given_tensors}
        assert equal(reader.read(), expected)
        assert equal(read_frame(buffer, ROOM, ROOM), expected)


def test_a_head_that_changes_under_a_reader_is_checked_anew(buffer: mmap.mmap) -> None:
    writer, reader = FrameWriter(buffer, 0, ROOM), FrameReader(buffer, 0, ROOM)
    writer.write([("x", [np.zeros(8, np.float32)])])
    reader.read()
    struct.pack_into("<Q", buffer, 16 + 24, 1 << 40)

    with pytest.raises(FrameError):
        reader.read()
