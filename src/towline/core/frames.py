"""The one layout of named tensors in a byte buffer: batches between front and worker, and golden requests on disk.

A frame is little-endian:  magic u32 | number of tensors u32 | bytes of the whole frame u64 | a record per tensor | the data
A record:                  dtype u8 | rank u8 | bytes of the name u16 | 0 u32 | offset u64 | bytes u64 | dims u64 * rank | name, padded to 8
Offsets count from the start of the frame and are multiples of 64. A string tensor's data is, per element, its length u32 and its bytes.
Whoever wrote a frame is not trusted: `read_frame` checks every number before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import TowlineError

MAGIC = 0x31465754  # "TWF1"
MAX_TENSORS = 1024
MAX_RANK = 16
ALIGNMENT = 64
_HEAD = struct.Struct("<IIQ")
_RECORD = struct.Struct("<BBHIQQ")
_LENGTH = struct.Struct("<I")
_DIMS = [struct.Struct(f"<{rank}Q") for rank in range(MAX_RANK + 1)]


class FrameError(TowlineError):
    """A frame does not fit its buffer, or is not a frame."""

    code = "BAD_FRAME"


class FrameTooLarge(FrameError):
    """The tensors need more bytes than the buffer has."""

    code = "FRAME_TOO_LARGE"


def write_frame(buffer: Any, start: int, capacity: int, tensors: Sequence[tuple[str, Sequence[np.ndarray]]]) -> int:
    """Write named tensors at `start`; return the frame's size in bytes.

    Each tensor is given as the parts that make it up along axis 0: the rows of several requests become one batch
    with a single copy. All parts of a tensor have one dtype and equal trailing dims; a part of rank 0 stands alone.
    """
    plans = []
    offset = _HEAD.size
    for name, parts in tensors:
        first = parts[0]
        dtype = dtypes.of_array(first)
        if dtype is None:
            raise FrameError(f"Tensor '{name}' has a type no frame carries: {first.dtype}.")
        shape = first.shape if len(parts) == 1 else (sum(len(part) for part in parts), *first.shape[1:])
        encoded = name.encode()
        plans.append((encoded, dtype, shape, parts))
        offset += _RECORD.size + 8 * len(shape) + _padded(len(encoded), 8)

    records = bytearray()
    offset = _padded(offset, ALIGNMENT)
    for encoded, dtype, shape, parts in plans:
        if dtype.size:
            size = dtype.size
            for dim in shape:
                size *= dim
            if offset + size > capacity:
                raise FrameTooLarge(f"The tensors need more than the {capacity} bytes there are.")
            _write_numbers(buffer, start + offset, dtype, shape, parts)
        else:
            packed = b"".join(pack_strings(part) for part in parts)
            size = len(packed)
            if offset + size > capacity:
                raise FrameTooLarge(f"The tensors need more than the {capacity} bytes there are.")
            buffer[start + offset : start + offset + size] = packed
        records += _RECORD.pack(dtype.code, len(shape), len(encoded), 0, offset, size)
        records += _DIMS[len(shape)].pack(*shape)
        records += encoded.ljust(_padded(len(encoded), 8), b"\0")
        offset = _padded(offset + size, ALIGNMENT)

    head = _HEAD.pack(MAGIC, len(plans), offset) + records
    if len(head) > capacity:
        raise FrameTooLarge(f"The tensors need more than the {capacity} bytes there are.")
    buffer[start : start + len(head)] = head
    return offset


def _write_numbers(buffer: Any, at: int, dtype: dtypes.DType, shape: tuple[int, ...], parts: Sequence[np.ndarray]) -> None:
    count = 1
    for dim in shape:
        count *= dim
    target = np.frombuffer(buffer, dtype.numpy, count, at).reshape(shape)
    if len(parts) == 1:
        target[...] = parts[0]
    else:
        np.concatenate(parts, out=target)


def read_frame(buffer: Any, start: int, capacity: int) -> dict[str, np.ndarray]:
    """The tensors of a frame, as views of the buffer (strings are copied). Raises FrameError rather than read outside `capacity`."""
    magic, count, total = _HEAD.unpack(bytes(buffer[start : start + _HEAD.size])) if capacity >= _HEAD.size else (0, 0, 0)
    if magic != MAGIC or count > MAX_TENSORS or not _HEAD.size <= total <= capacity:
        raise FrameError("This is not a frame, or it does not fit its buffer.")
    tensors: dict[str, np.ndarray] = {}
    at = _HEAD.size
    for _ in range(count):
        # Each record is copied before it is checked, so that the writer cannot change it in between.
        if at + _RECORD.size > total:
            raise FrameError("A frame's records run past its end.")
        code, rank, name_size, _, offset, size = _RECORD.unpack(bytes(buffer[start + at : start + at + _RECORD.size]))
        at += _RECORD.size
        dims_size, name_room = 8 * rank, _padded(name_size, 8)
        if code not in dtypes.BY_CODE or rank > MAX_RANK or at + dims_size + name_room > total:
            raise FrameError("A frame's record is not valid.")
        shape = _DIMS[rank].unpack(bytes(buffer[start + at : start + at + dims_size]))
        at += dims_size
        name = bytes(buffer[start + at : start + at + name_size]).decode("utf-8", "replace")
        at += name_room
        tensors[name] = _read_tensor(buffer, start, total, dtypes.BY_CODE[code], shape, offset, size)
    return tensors


def _read_tensor(buffer: Any, start: int, total: int, dtype: dtypes.DType, shape: tuple[int, ...], offset: int, size: int) -> np.ndarray:
    count = 1
    for dim in shape:
        count *= dim
    if offset + size > total or offset % ALIGNMENT:
        raise FrameError("A frame's tensor lies outside the frame.")
    if dtype.size:
        if count * dtype.size != size:
            raise FrameError("A frame's tensor does not have the size its shape tells.")
        return np.frombuffer(buffer, dtype.numpy, count, start + offset).reshape(shape)
    return unpack_strings(bytes(buffer[start + offset : start + offset + size]), count).reshape(shape)


def pack_strings(array: np.ndarray) -> bytes:
    """The elements of a string array in row-major order, each as its length (u32) and its bytes: the v2 protocol's BYTES."""
    packed = bytearray()
    for element in array.reshape(-1):
        raw = element if isinstance(element, bytes) else str(element).encode()
        packed += _LENGTH.pack(len(raw)) + raw
    return bytes(packed)


def unpack_strings(packed: bytes | memoryview, count: int) -> np.ndarray:
    """`count` byte strings as an object array of shape [count]. Raises FrameError when there are more, fewer or torn ones."""
    size = len(packed)
    if count * _LENGTH.size > size:
        raise FrameError(f"{count} strings need at least {count * _LENGTH.size} bytes, got {size}.")
    array = np.empty(count, dtype=object)
    at = 0
    for index in range(count):
        if at + _LENGTH.size > size:
            raise FrameError(f"The bytes end before string {index} of {count}.")
        (length,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        if at + length > size:
            raise FrameError(f"String {index} says it has {length} bytes, but only {size - at} are left.")
        array[index] = bytes(packed[at : at + length])
        at += length
    if at != size:
        raise FrameError(f"{size - at} bytes are left after the last of {count} strings.")
    return array


def encode_frame(tensors: dict[str, np.ndarray]) -> bytes:
    """A frame of its own, for a file."""
    size = 1024
    for name, array in tensors.items():
        size += (array.nbytes if array.dtype != object else len(pack_strings(array))) + len(name.encode()) + 256
    buffer = bytearray(size)
    return bytes(buffer[: write_frame(buffer, 0, size, [(name, [array]) for name, array in tensors.items()])])


def decode_frame(raw: bytes) -> dict[str, np.ndarray]:
    return read_frame(raw, 0, len(raw))


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
