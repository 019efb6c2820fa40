"""Take the long lists of numbers out of a request before protobuf reads the rest: they stay where they lie, as views. Pure.

On the wire a packed list of floats is their bytes. Protobuf would copy them, and make a number of varints each, before anyone knew whether
their count fits their shape. What is written in any other way than serialisers write it is left to protobuf altogether.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from towline.serve.protocols.grpc import wire
from towline.serve.protocols.grpc.calls import read
from towline.serve.protocols.grpc.elements import KINDS, Run

# Shorter messages are read by protobuf alone, and shorter lists: looking through a message takes as long as reading that.
MIN_BYTES = 64 << 10
# Serialisers write some ten fields an input.
MAX_FIELDS = 2000
_NAME = 1
# Numbers, many of them, or a single value of bytes.
_LIST = re.compile(r"(?:repeated (?P<kind>\w+)|(?P<is_bytes>bytes)) (?P<name>\w+) = (?P<number>\d+)")

# What was lifted from one tensor, by the field's name: runs, and bytes as they are.
Lists = Mapping[str, Any]
NONE: Lists = {}


class Lifted(NamedTuple):
    """What was lifted from a request: lists by their tensor's name, and raw contents by their index; of these an empty one stays."""

    lists: Mapping[str, Lists]
    raws: Mapping[int, memoryview]


NOTHING = Lifted({}, {})


class Place(NamedTuple):
    """Where a request has its tensors: field `tensors` holds messages with a name (1), and there `values` one with the `lists`."""

    tensors: int
    values: int
    # By number: the field's name and its kind of number, "" for bytes.
    lists: Mapping[int, tuple[str, str]]
    # The field of tensors' bytes beside their descriptions; 0 where there is none.
    raws: int = 0


def place(tensors: int, values: int, lines: Sequence[str], raws: int = 0) -> Place:
    """`lines` are the message with the lists as a Table has it."""
    lists = {}
    for match in filter(None, map(_LIST.fullmatch, lines)):
        if match["kind"] in KINDS or match["is_bytes"]:
            lists[int(match["number"])] = (match["name"], match["kind"] or "")
    return Place(tensors, values, lists, raws)


def read_request(kind: Any, raw: bytes, where: Place) -> tuple[Any, Lifted]:
    """The message in `raw` but for its long lists, and these. Raises InvalidRequest."""
    if len(raw) < MIN_BYTES:
        return read(kind, raw), NOTHING
    try:
        rest, lifted = lift(raw, where, MIN_BYTES)
    except (wire.NotPlain, UnicodeDecodeError):
        return read(kind, raw), NOTHING
    return read(kind, rest), lifted


def lift(raw: bytes, where: Place, min_bytes: int) -> tuple[bytes, Lifted]:
    """The message without its lists of `min_bytes` and more, and these. Raises NotPlain and UnicodeDecodeError."""
    lifter = _Lifter(where, min_bytes)
    parts = lifter.request(memoryview(raw))
    return (b"".join(parts), Lifted(lifter.lists, lifter.raws)) if lifter.lists or lifter.raws else (raw, NOTHING)


class _Lifter:
    def __init__(self, where: Place, min_bytes: int) -> None:
        self._where, self._min_bytes = where, min_bytes
        self._fields_left = MAX_FIELDS
        self._names: set[str] = set()
        self.lists: dict[str, Lists] = {}
        self.raws: dict[int, memoryview] = {}

    def request(self, message: memoryview) -> list[bytes | memoryview]:
        parts: list[bytes | memoryview] = []
        raws = 0
        for number, kind, begin, value, end in self._fields(message):
            if number == self._where.tensors and kind == wire.LENGTH:
                parts.append(wire.delimited(number, self._tensor(message[value:end])))
                continue
            if number == self._where.raws and kind == wire.LENGTH:
                raws += 1
                if end - value >= self._min_bytes:
                    self.raws[raws - 1] = message[value:end]
                    parts.append(wire.delimited(number, b""))
                    continue
            parts.append(message[begin:end])
        return parts

    def _tensor(self, message: memoryview) -> bytes:
        parts: list[bytes | memoryview] = []
        name: str | None = None
        lists: dict[str, Any] | None = None
        for number, kind, begin, value, end in self._fields(message):
            if number == _NAME and kind == wire.LENGTH and name is None:
                name = str(message[value:end], "utf-8")
                parts.append(message[begin:end])
            elif number == self._where.values and kind == wire.LENGTH and lists is None:
                lists = {}
                parts.append(wire.delimited(number, self._values(message[value:end], lists)))
            elif number in (_NAME, self._where.values):
                # Protobuf merges what comes twice.
                raise wire.NotPlain
            else:
                parts.append(message[begin:end])
        if name is None or name in self._names:
            raise wire.NotPlain
        self._names.add(name)
        if lists:
            self.lists[name] = lists
        return b"".join(parts)

    def _values(self, message: memoryview, lists: dict[str, Any]) -> bytes:
        parts: list[bytes | memoryview] = []
        seen: set[int] = set()
        for number, kind, begin, value, end in self._fields(message):
            known = self._where.lists.get(number)
            if known is not None:
                if number in seen:
                    # A list in several pieces, packed or not, in the order of the wire.
                    raise wire.NotPlain
                seen.add(number)
                if kind == wire.LENGTH and end - value >= self._min_bytes:
                    field, scalar = known
                    lists[field] = Run(message[value:end], scalar) if scalar else message[value:end]
                    continue
            parts.append(message[begin:end])
        return b"".join(parts)

    def _fields(self, message: memoryview) -> Any:
        for field in wire.fields(message):
            self._fields_left -= 1
            if self._fields_left < 0:
                raise wire.NotPlain
            yield field
