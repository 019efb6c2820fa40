"""Read flatbuffers that nobody vouched for: every offset is checked before it is followed, and the steps are counted. Pure."""

from __future__ import annotations

import struct

from towline.core.errors import ImportRefused

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_SIZES = {"b": 1, "B": 1, "?": 1, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}
# Tables may share what they point to, so that a small file can describe an endless one.
MAX_STEPS = 4_000_000


def damaged(what: str) -> ImportRefused:
    return ImportRefused(
        f"The TensorFlow Lite file is damaged: {what}.", code="DAMAGED_FILE", hint="Copy or export it again; it may be cut short."
    )


class Flatbuffer:
    """The bytes of a file, and how many steps were taken in it. Everything raises ImportRefused for what does not lie within."""

    def __init__(self, raw: bytes | memoryview) -> None:
        self.raw = raw
        self.size = len(raw)
        self._steps = 0

    def root(self) -> Table:
        return Table(self, self.u32(0))

    def u16(self, at: int) -> int:
        self.need(at, 2)
        return int(_U16.unpack_from(self.raw, at)[0])

    def u32(self, at: int) -> int:
        self.need(at, 4)
        return int(_U32.unpack_from(self.raw, at)[0])

    def i32(self, at: int) -> int:
        self.need(at, 4)
        return int(_I32.unpack_from(self.raw, at)[0])

    def need(self, at: int, count: int) -> None:
        if at < 0 or at + count > self.size:
            raise damaged(f"it points to byte {at + count} of {self.size}")

    def step(self, count: int = 1) -> None:
        self._steps += count
        if self._steps > MAX_STEPS:
            raise ImportRefused("The TensorFlow Lite file describes more than a model has.", code="LIMIT_EXCEEDED")


class Table:
    """One table. A slot is a field's place in the schema, from 0; a field that is not there has its default."""

    def __init__(self, file: Flatbuffer, at: int) -> None:
        file.step()
        self._file = file
        self._at = at
        self._vtable = at - file.i32(at)
        self._vtable_size = file.u16(self._vtable)
        self._size = file.u16(self._vtable + 2)
        if self._vtable_size < 4 or self._vtable_size % 2 or self._size < 4:
            raise damaged("a table has no shape")
        file.need(self._vtable, self._vtable_size)
        file.need(at, self._size)

    def number(self, slot: int, kind: str, default: int = 0) -> int:
        """`kind` is a letter of the struct module: b, B, ?, i, I, q or Q."""
        at = self._field(slot, _SIZES[kind])
        return default if at is None else int(struct.unpack_from(f"<{kind}", self._file.raw, at)[0])

    def table(self, slot: int) -> Table | None:
        at = self._pointed(slot)
        return None if at is None else Table(self._file, at)

    def tables(self, slot: int) -> list[Table]:
        start, count = self._vector(slot, 4)
        self._file.step(count)
        return [Table(self._file, place + self._file.u32(place)) for place in range(start, start + 4 * count, 4)]

    def numbers(self, slot: int, kind: str) -> tuple[int, ...]:
        return tuple(int(one) for one in self._unpacked(slot, kind))

    def reals(self, slot: int) -> tuple[float, ...]:
        return self._unpacked(slot, "f")

    def text(self, slot: int) -> str:
        """Empty when it is not there; what is no UTF-8 comes as replacement characters."""
        start, count = self._vector(slot, 1)
        self._file.step(count // 64)
        return bytes(self._file.raw[start : start + count]).decode("utf-8", "replace")

    def span(self, slot: int) -> tuple[int, int]:
        """Where a vector of bytes lies in the file: start, size. (0, 0) when it is not there."""
        return self._vector(slot, 1)

    def has(self, slot: int) -> bool:
        return self._field(slot, 1) is not None

    def _unpacked(self, slot: int, kind: str) -> tuple[float, ...]:
        start, count = self._vector(slot, _SIZES[kind])
        self._file.step(count)
        return struct.unpack_from(f"<{count}{kind}", self._file.raw, start)

    def _field(self, slot: int, size: int) -> int | None:
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return None
        offset = self._file.u16(self._vtable + entry)
        if not offset:
            return None
        if offset < 4 or offset + size > self._size:
            raise damaged("a field lies outside of its table")
        return self._at + offset

    def _pointed(self, slot: int) -> int | None:
        at = self._field(slot, 4)
        return None if at is None else at + self._file.u32(at)

    def _vector(self, slot: int, size: int) -> tuple[int, int]:
        """Start and number of elements."""
        at = self._pointed(slot)
        if at is None:
            return 0, 0
        count = self._file.u32(at)
        self._file.need(at + 4, count * size)
        return at + 4, count
