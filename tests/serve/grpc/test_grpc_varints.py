"""Packed varints beside protobuf's own reading and writing of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from towline.serve.protocols.grpc import varints
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.wire import delimited

Contents = MESSAGES["inference.InferTensorContents"]
# The same ones on any machine, however slow.
HURRY = (HealthCheck.too_slow, HealthCheck.data_too_large)
examples = settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=HURRY)
KINDS = {"bool": ("bool_contents", 1), "int32": ("int_contents", 2), "int64": ("int64_contents", 3)}
KINDS |= {"uint32": ("uint_contents", 4), "uint64": ("uint64_contents", 5)}
each_kind = pytest.mark.parametrize("kind", KINDS)
# Octets as an attacker, and as a serialiser, would mix them: long chains, zeros, and everything else.
octets = st.lists(st.one_of(st.sampled_from([0x00, 0x01, 0x7F, 0x80, 0xFF]), st.integers(0, 255)), min_size=1, max_size=60).map(bytes)


def by_protobuf(run: bytes, kind: str) -> list[Any] | None:
    """The elements, None where the run is refused."""
    place, number = KINDS[kind]
    try:
        return list(getattr(Contents.FromString(delimited(number, run)), place))
    except DecodeError:
        return None


def by_us(run: bytes, kind: str) -> list[Any] | None:
    found = np.frombuffer(run, np.uint8)
    if run[-1] & 0x80:
        return None
    try:
        array = varints.decode(found, np.dtype(kind), varints.count(found))
    except varints.Malformed:
        return None
    assert array.dtype == kind
    return array.tolist()


@each_kind
@examples
@given(octets)
@example(b"\xff" * 9 + b"\x01")
@example(b"\xff" * 9 + b"\x7f")
@example(b"\x80" * 9 + b"\x00")
@example(b"\x80" * 10 + b"\x00")
@example(b"\x05" + b"\x80" * 10 + b"\x01\x05")
@example(b"\x80\x80\x80\x80\x10\x02")
def test_any_bytes_are_read_as_protobuf_reads_them_or_refused_like_there(kind: str, run: bytes) -> None:
    assert by_us(run, kind) == by_protobuf(run, kind)


@each_kind
@examples
@given(st.data())
def test_numbers_are_written_as_protobuf_writes_them(kind: str, data: st.DataObject) -> None:
    bounds = (0, 1) if kind == "bool" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    near = st.sampled_from(
        [value for value in (0, 1, -1, 127, 128, 2**14, 2**31 - 1, -(2**31), *bounds) if bounds[0] <= value <= bounds[1]]
    )
    values = data.draw(st.lists(st.one_of(near, st.integers(*bounds)), min_size=1, max_size=30))
    place, number = KINDS[kind]

    written = varints.encode(np.array(values, kind))

    assert delimited(number, written) == Contents(**{place: values}).SerializeToString()


@pytest.mark.parametrize("kind", ["int8", "int16", "uint8", "uint16"])
def test_small_types_are_written_like_large_ones(kind: str) -> None:
    bounds = np.iinfo(kind)
    values = [bounds.min, bounds.max, 0, 1]

    written = varints.encode(np.array(values, kind))

    assert delimited(3, written) == Contents(int64_contents=values).SerializeToString()


@pytest.mark.parametrize("sizes", [(1, 2, 3, 10), (3,), (1,)])
def test_varints_across_many_blocks_are_neither_cut_nor_counted_twice(sizes: tuple[int, ...]) -> None:
    # Sizes that divide no block: their ends fall everywhere.
    chosen = np.random.default_rng(7).choice(sizes, 150_000)
    values = np.where(chosen == 10, -1, 1 << (7 * (np.minimum(chosen, 9) - 1)))

    run = np.frombuffer(varints.encode(values), np.uint8)

    assert len(run) == chosen.sum()
    assert varints.count(run) == len(values)
    assert np.array_equal(varints.decode(run, np.dtype(np.int64), len(values)), values)


def test_a_varint_too_long_is_refused_in_the_last_block_too() -> None:
    run = np.full(400_000, 1, np.uint8)
    run[-20:-2] = 0x80

    with pytest.raises(varints.Malformed):
        varints.decode(run, np.dtype(np.int64), varints.count(run))
