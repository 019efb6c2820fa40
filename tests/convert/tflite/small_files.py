"""Flatbuffers written by hand, so that they may say what no converter would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import flatbuffers

HERE = Path(__file__).parent


def read(name: str) -> bytes:
    """One of the files that tests/frameworks/write_tflite_models.py wrote."""
    return (HERE / f"{name}.tflite").read_bytes()


@dataclass(frozen=True)
class Shared:
    """A table that is written once, and pointed to `times` times."""

    table: Mapping[int, object]
    times: int


@dataclass(frozen=True)
class Ints:
    values: Sequence[int]


@dataclass(frozen=True)
class Number:
    """A scalar of the schema: `int32`, `uint64`, ..."""

    kind: str
    value: int


@dataclass
class Writer:
    builder: flatbuffers.Builder = field(default_factory=lambda: flatbuffers.Builder(1024))

    def table(self, fields: Mapping[int, object]) -> int:
        """`fields` by their slots: text, bytes, Ints, Number, a table, a list of tables."""
        pointed = {slot: self._pointed(value) for slot, value in fields.items() if not isinstance(value, Number)}
        self.builder.StartObject(max(fields, default=0) + 1)
        for slot, value in fields.items():
            if isinstance(value, Number):
                getattr(self.builder, f"Prepend{value.kind.capitalize()}Slot")(slot, value.value, None)
            else:
                self.builder.PrependUOffsetTRelativeSlot(slot, pointed[slot], 0)
        return int(self.builder.EndObject())

    def _pointed(self, value: object) -> int:
        if isinstance(value, str):
            return int(self.builder.CreateString(value))
        if isinstance(value, bytes):
            return int(self.builder.CreateByteVector(value))
        if isinstance(value, Ints):
            self.builder.StartVector(4, len(value.values), 4)
            for one in reversed(value.values):
                self.builder.PrependInt32(one)
            return int(self.builder.EndVector())
        if isinstance(value, Shared):
            return self._vector([self.table(value.table)] * value.times)
        if isinstance(value, list):
            return self._vector([self.table(one) for one in value])
        assert isinstance(value, Mapping)
        return self.table(value)

    def _vector(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())


def tflite(fields: Mapping[int, object]) -> bytes:
    """A whole file; `fields` are those of the schema's Model, whose version is 3 unless they say otherwise."""
    writer = Writer()
    root = writer.table({0: Number("uint32", 3), **fields})
    writer.builder.Finish(root, b"TFL3")
    return bytes(writer.builder.Output())


def tensor(shape: Sequence[int] = (1, 2), *, name: str = "x", type_number: int = 0, buffer: int = 0, **more: object) -> dict[int, object]:
    fields: dict[int, object] = {0: Ints(shape), 1: Number("int8", type_number), 2: Number("uint32", buffer), 3: name}
    return fields | {int(slot[1:]): value for slot, value in more.items()}


def graph(tensors: object, operators: object = (), *, inputs: Sequence[int] = (0,), outputs: Sequence[int] = (0,)) -> dict[int, object]:
    return {0: tensors, 1: Ints(inputs), 2: Ints(outputs), 3: list(operators) if isinstance(operators, tuple) else operators}


def operator(code: int = 0, *, inputs: Sequence[int] = (0,), outputs: Sequence[int] = (0,), **more: object) -> dict[int, object]:
    return {0: Number("uint32", code), 1: Ints(inputs), 2: Ints(outputs)} | {int(slot[1:]): value for slot, value in more.items()}


def code(number: int, custom: str = "") -> dict[int, object]:
    return {0: Number("int8", min(number, 127)), 3: Number("int32", number)} | ({1: custom} if custom else {})


def model(graphs: object, codes: Sequence[Mapping[int, object]] = (), buffers: object = (), **more: object) -> bytes:
    held = [{}, *buffers] if isinstance(buffers, tuple) else buffers
    fields: dict[int, object] = {1: [*codes], 2: graphs, 4: held}
    return tflite(fields | {int(slot[1:]): value for slot, value in more.items()})
