"""The one layout of named tensors in a byte buffer: batches between front and worker, and golden requests on disk.

A frame is little-endian:  magic u32 | number of tensors u32 | bytes of the whole frame u64 | a record per tensor | the data
A record:                  dtype u8 | rank u8 | bytes of the name u16 | 0 u32 | offset u64 | bytes u64 | dims u64 * rank | name, padded to 8
Offsets count from the start of the frame and are multiples of 64. A string tensor's data is, per element, its length u32 and its bytes.
Whoever wrote a frame is not trusted: `read_frame` checks every number before it is used.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from towline.core import dtypes
from towline.core.errors import TowlineError

MAGIC = 0x31465754  # "TWF1"
MAX_TENSORS = 1024
MAX_RANK = 16
ALIGNMENT = 64
REMEMBERED_LAYOUTS = 256
# Up to so many bytes the parts of a tensor are joined before they are copied.
_JOINED_BYTES = 64 << 10
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
    records = []
    plans = []
    head_size = _HEAD.size
    for name, parts in tensors:
        first = parts[0]
        dtype = dtypes.of_array(first)
        if dtype is None:
            raise FrameError(f"Tensor '{name}' has a type no frame carries: {first.dtype}.")
        shape = _joined_shape(parts)
        encoded, size_of_name = _encoded_name(name)
        plans.append((encoded, size_of_name, dtype, shape, parts))
        head_size += _RECORD.size + 8 * len(shape) + len(encoded)

    offset = -(-head_size // ALIGNMENT) * ALIGNMENT
    if offset > capacity:
        raise FrameTooLarge(f"The tensors need more than the {capacity} bytes there are.")
    for encoded, size_of_name, dtype, shape, parts in plans:
        packed = b"".join([pack_strings(part) for part in parts]) if not dtype.size else b""
        count = math.prod(shape)
        size = count * dtype.size if dtype.size else len(packed)
        if offset + size > capacity:
            raise FrameTooLarge(f"The tensors need more than the {capacity} bytes there are.")
        at = start + offset
        if packed:
            buffer[at : at + size] = packed
        elif dtype.size and len(parts) == 1:
            np.frombuffer(buffer, dtype.numpy, count, at).reshape(shape)[...] = parts[0]
        elif dtype.size:
            np.concatenate(parts, out=np.frombuffer(buffer, dtype.numpy, count, at).reshape(shape))
        rank = len(shape)
        records.append(_RECORD.pack(dtype.code, rank, size_of_name, 0, offset, size) + _DIMS[rank].pack(*shape) + encoded)
        offset = -(-(offset + size) // ALIGNMENT) * ALIGNMENT

    head = _HEAD.pack(MAGIC, len(plans), offset) + b"".join(records)
    buffer[start : start + head_size] = head
    return offset


@lru_cache(maxsize=4096)
def _encoded_name(name: str) -> tuple[bytes, int]:
    """The name padded to a multiple of 8, and its own size in bytes."""
    encoded = name.encode()
    return encoded.ljust(_padded(len(encoded), 8), b"\0"), len(encoded)


def read_frame(buffer: bytes | memoryview | mmap.mmap, start: int, capacity: int) -> dict[str, np.ndarray]:
    """The tensors of a frame, as views of the buffer (strings are copied). Raises FrameError rather than read outside `capacity`."""
    magic, count, total = _HEAD.unpack(buffer[start : start + _HEAD.size]) if capacity >= _HEAD.size else (0, 0, 0)
    if magic != MAGIC or count > MAX_TENSORS or not _HEAD.size <= total <= capacity:
        raise FrameError("This is not a frame, or it does not fit its buffer.")
    tensors: dict[str, np.ndarray] = {}
    at = _HEAD.size
    for _ in range(count):
        # A slice is a copy: what is checked is what is used, whatever the writer does meanwhile.
        if at + _RECORD.size > total:
            raise FrameError("A frame's records run past its end.")
        code, rank, name_size, _, offset, size = _RECORD.unpack(buffer[start + at : start + at + _RECORD.size])
        at += _RECORD.size
        dims_size, name_room = 8 * rank, _padded(name_size, 8)
        if code not in dtypes.BY_CODE or rank > MAX_RANK or at + dims_size + name_room > total:
            raise FrameError("A frame's record is not valid.")
        shape = _DIMS[rank].unpack(buffer[start + at : start + at + dims_size])
        at += dims_size
        name = bytes(buffer[start + at : start + at + name_size]).decode("utf-8", "replace")
        at += name_room
        tensors[name] = _read_tensor(buffer, start, total, dtypes.BY_CODE[code], shape, offset, size)
    return tensors


def _read_tensor(
    buffer: bytes | memoryview | mmap.mmap, start: int, total: int, dtype: dtypes.DType, shape: tuple[int, ...], offset: int, size: int
) -> np.ndarray:
    count = math.prod(shape)
    if offset + size > total or offset % ALIGNMENT:
        raise FrameError("A frame's tensor lies outside the frame.")
    if dtype.size:
        if count * dtype.size != size:
            raise FrameError("A frame's tensor does not have the size its shape tells.")
        return np.frombuffer(buffer, dtype.numpy, count, start + offset).reshape(shape)
    return unpack_strings(buffer[start + offset : start + offset + size], count).reshape(shape)


class FrameWriter:
    """Writes frames at one place of a buffer that nobody else writes to. The same shapes again cost no more than copying the data."""

    def __init__(self, buffer: mmap.mmap, start: int, capacity: int) -> None:
        self._buffer = buffer
        self._start = start
        self._capacity = capacity
        self._plans: dict[Any, _Plan] = {}
        self._last: bytes = b""

    def write(self, parts: Sequence[Mapping[str, np.ndarray]], layout: Any = None) -> int:
        """As write_frame, of one or several sets of tensors with the same names, whose rows are put together.

        Equal `layout`s promise equal names, dtypes and shapes of the whole, and little-endian arrays in C order; None: they are to be
        looked at.
        """
        plan = self._plans.get(layout) if layout is not None else None
        if plan is None:
            tensors = [(name, [part[name] for part in parts]) for name in parts[0]]
            key = _layout(tensors) if layout is None else layout
            plan = self._plans.get(key)
            if plan is None:
                return self._write_new(key, tensors)
        if plan.head is not self._last:
            self._buffer[self._start : self._start + len(plan.head)] = plan.head
            self._last = plan.head
        for name, (view, at, end) in plan.tensors.items():
            if len(parts) == 1:
                view[...] = parts[0][name]
            elif layout is not None and end - at <= _JOINED_BYTES:
                # numpy takes four times as long to put small arrays together.
                self._buffer[at:end] = b"".join([part[name] for part in parts])  # type: ignore[misc]
            else:
                np.concatenate([part[name] for part in parts], out=view)
        return plan.size

    def begin(self, layout: Any) -> dict[str, np.ndarray] | None:
        """Write all but the data of a frame that was written before, and give the arrays to be filled; None when it was not."""
        plan = self._plans.get(layout)
        if plan is None:
            return None
        if plan.head is not self._last:
            self._buffer[self._start : self._start + len(plan.head)] = plan.head
            self._last = plan.head
        return plan.views

    def forget(self) -> None:
        """Something else was written at this place."""
        self._last = b""

    def _write_new(self, key: Any, tensors: Sequence[tuple[str, Sequence[np.ndarray]]]) -> int:
        self._last = b""
        size = write_frame(self._buffer, self._start, self._capacity, tensors)
        if all(parts[0].dtype in dtypes.WITH_SIZE for _, parts in tensors):
            head_size = _head_size(self._buffer, self._start)
            views = read_frame(self._buffer, self._start, self._capacity)
            if len(self._plans) >= REMEMBERED_LAYOUTS:
                self._plans.clear()
            base = _address(np.frombuffer(self._buffer, np.uint8, 1))
            places = {name: (view, _address(view) - base, _address(view) - base + view.nbytes) for name, view in views.items()}
            self._plans[key] = _Plan(self._buffer[self._start : self._start + head_size], size, places, views)
        return size


class _Plan(msgspec.Struct, frozen=True, gc=False):
    """A frame that was written once: its head, its size, and for each tensor its view and the place of its data in the buffer."""

    head: bytes
    size: int
    tensors: dict[str, tuple[np.ndarray, int, int]]
    views: dict[str, np.ndarray]


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _layout(tensors: Sequence[tuple[str, Sequence[np.ndarray]]]) -> Any:
    return tuple([(name, parts[0].dtype, _joined_shape(parts)) for name, parts in tensors])


def _joined_shape(parts: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The shape of the parts put together along axis 0."""
    shape = parts[0].shape
    return shape if len(parts) == 1 else (sum([len(part) for part in parts]), *shape[1:])


class FrameReader:
    """Reads frames at one place of a buffer. A head that equals one of before was checked already: its views are given again."""

    def __init__(self, buffer: mmap.mmap, start: int, capacity: int) -> None:
        self._buffer = buffer
        self._start = start
        self._capacity = capacity
        # By the bytes of a head, as long as the last one was: heads differ in length only where names or ranks do.
        self._known: dict[bytes, dict[str, np.ndarray]] = {}
        self._end = start

    def read(self) -> dict[str, np.ndarray]:
        """As read_frame. The dict is the reader's own: it is not to be changed."""
        tensors = self._known.get(self._buffer[self._start : self._end])
        if tensors is not None:
            return tensors
        tensors = read_frame(self._buffer, self._start, self._capacity)
        # Strings are copied out of the data, which may change while the head stays.
        if all(array.dtype != object for array in tensors.values()):
            self._end = self._start + _head_size(self._buffer, self._start)
            if len(self._known) >= REMEMBERED_LAYOUTS:
                self._known.clear()
            self._known[self._buffer[self._start : self._end]] = tensors
        return tensors


def _head_size(buffer: mmap.mmap, start: int) -> int:
    """Bytes of a frame's head and records. Never more than is there: a writer that changes it meanwhile gains nothing but a miss."""
    _, count, total = _HEAD.unpack(buffer[start : start + _HEAD.size])
    at = _HEAD.size
    for _ in range(min(count, MAX_TENSORS)):
        if at + _RECORD.size > total:
            break
        _, rank, name_size, _, _, _ = _RECORD.unpack(buffer[start + at : start + at + _RECORD.size])
        at += _RECORD.size + 8 * rank + _padded(name_size, 8)
    return int(min(at, total))


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
