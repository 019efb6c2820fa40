"""Protobuf's packed lists of varints <-> arrays, many elements at a time, by protobuf's own rules. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# A number of 64 bits takes as many, seven bits in each.
MAX_BYTES = 10
# What marks a byte that another follows.
MORE = 0x80
# What is worked on at once: a block and what comes of it stay in the processor's cache.
_BLOCK = 1 << 17


class Malformed(ValueError):
    """The bytes are no list of varints: the last one is cut off, or one is longer than ten bytes."""


def count(octets: np.ndarray) -> int:
    """How many varints end in these bytes (uint8): all there are, where none is cut off."""
    return sum(int(np.count_nonzero(octets[at : at + _BLOCK] < MORE)) for at in range(0, len(octets), _BLOCK))


def decode(octets: np.ndarray, dtype: np.dtype, size: int) -> np.ndarray:
    """The `size` varints in `octets` (uint8), as many as `count` says, as integers or bools of `dtype`. Raises Malformed.

    What does not fit is cut to its lowest bits, and any bool but 0 is true, as protobuf reads them.
    """
    if size == len(octets):
        # A byte each: bools, and small numbers.
        return octets.astype(dtype)
    array = np.empty(size, dtype)
    filled = 0
    for block in _blocks(octets):
        numbers = _decoded(block)
        array[filled : filled + len(numbers)] = numbers
        filled += len(numbers)
    return array


def _blocks(octets: np.ndarray) -> Iterator[np.ndarray]:
    """The bytes in pieces that cut no varint in two."""
    at = 0
    while at < len(octets):
        block = octets[at : at + _BLOCK]
        (ends,) = np.nonzero(block[-MAX_BYTES:] < MORE)
        if not len(ends):
            raise Malformed
        block = block[: max(len(block) - MAX_BYTES, 0) + int(ends[-1]) + 1]
        yield block
        at += len(block)


def _decoded(block: np.ndarray) -> np.ndarray:
    """Whole varints as uint64."""
    ends = np.flatnonzero(block < MORE)
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    # Bytes after the first.
    more = ends - starts
    shortest, longest = int(more.min()), int(more.max())
    if longest >= MAX_BYTES:
        raise Malformed
    numbers = _low(block[starts])
    for place in range(1, longest + 1):
        if place <= shortest:
            numbers |= _low(block[starts + place]) << np.uint64(7 * place)
        else:
            longer = np.flatnonzero(more >= place)
            numbers[longer] |= _low(block[starts[longer] + place]) << np.uint64(7 * place)
    return numbers


def _low(octets: np.ndarray) -> np.ndarray:
    return (octets & 0x7F).astype(np.uint64)


def encode(array: np.ndarray) -> bytes:
    """A flat array of integers or bools as packed varints; a negative number takes ten bytes, whatever its type."""
    if array.dtype.kind == "b" or not array.size:
        return array.tobytes()
    return b"".join(_encoded(array[at : at + _BLOCK]) for at in range(0, len(array), _BLOCK))


def _encoded(block: np.ndarray) -> bytes:
    # Signed numbers are extended to 64 bits, as protobuf extends them.
    left = block.astype(np.uint64)
    longest = max(1, -(-int(left.max()).bit_length() // 7))
    columns = np.empty((len(left), longest), np.uint8)
    is_used = np.ones((len(left), longest), bool)
    for place in range(longest):
        columns[:, place] = left & np.uint64(0x7F)
        left >>= np.uint64(7)
        if place + 1 < longest:
            is_used[:, place + 1] = left != 0
            columns[:, place] |= is_used[:, place + 1].view(np.uint8) << 7
    return columns[is_used].tobytes()
