"""Read from an ONNX file's raw protobuf what must be known before any library may see it: is it whole, which files does it name. Pure."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field

from towline.core.errors import ImportRefused

# protobuf's own parsers stop at 100 nested messages; a subgraph costs three.
MAX_NESTING = 100
MAX_EXTERNAL_TENSORS = 200_000
# No protobuf message may be larger, so a length beyond it is damage, not a file cut short.
MAX_MESSAGE_BYTES = (2 << 30) - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_FIELDS = {
    1: _VARINT,
    2: _BYTES,
    3: _BYTES,
    4: _BYTES,
    5: _VARINT,
    6: _BYTES,
    7: _BYTES,
    8: _BYTES,
    14: _BYTES,
    20: _BYTES,
    25: _BYTES,
    26: _BYTES,
}
_VERSION_FIELD, _GRAPH_FIELD, _LAST_KNOWN_FIELD = 1, 7, 26
# Message -> field number -> message it holds; only the ways that lead to a tensor (onnx.proto).
PATHS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
TENSOR_NAME, TENSOR_EXTERNAL_DATA = 8, 13
ENTRY_KEY, ENTRY_VALUE = 1, 2


@dataclass(frozen=True)
class ExternalTensor:
    """A tensor that says its data lies in a file: the entries as they stand in the model, undecoded bytes replaced."""

    name: str
    entries: tuple[tuple[str, str], ...]

    def values(self, key: str) -> tuple[str, ...]:
        return tuple(value for name, value in self.entries if name == key)


@dataclass
class _Tensor:
    name: bytes = b""
    entries: list[tuple[bytes, bytes]] = field(default_factory=list)


Raw = bytes | mmap.mmap


class _Torn(Exception):
    """The bytes end before the message does; `needed` is where it would end."""

    def __init__(self, needed: int) -> None:
        super().__init__()
        self.needed = needed


class _NoProtobuf(Exception):
    """These bytes are no protobuf message."""


def check_whole(raw: Raw) -> None:
    """Raise ImportRefused unless the outermost message is a whole ONNX model: known fields that end where the file ends."""
    size = len(raw)
    seen = set()
    try:
        for number, kind, _, _ in _fields(raw, 0, size):
            if number <= _LAST_KNOWN_FIELD and _MODEL_FIELDS.get(number) != kind:
                raise _NoProtobuf
            seen.add(number)
    except _Torn as torn:
        # Every writer puts the format's version first.
        if _VERSION_FIELD not in seen or torn.needed > MAX_MESSAGE_BYTES:
            raise _not_onnx() from None
        raise ImportRefused(
            f"This ONNX file is torn: it has {size} bytes and needs at least {torn.needed}.",
            code="TORN_FILE",
            hint="Copy or download it again, to the end.",
        ) from None
    except _NoProtobuf:
        raise _not_onnx() from None
    if _GRAPH_FIELD not in seen:
        raise ImportRefused(
            "This ONNX file holds no graph: it was cut off, or it is another kind of protobuf file.",
            code="TORN_FILE",
            hint="Copy, download or export it again.",
        )


def _not_onnx() -> ImportRefused:
    return ImportRefused(
        "This is not an ONNX model.",
        code="NOT_ONNX",
        hint="What frameworks write is recognised by its bytes: give the file as they wrote it.",
    )


def external_tensors(raw: Raw) -> tuple[ExternalTensor, ...]:
    """Every tensor, in any place, that has external-data entries. Whether the tensor uses them does not matter: they must be harmless."""
    if raw.find(b"location") < 0:
        return ()
    found = []
    try:
        for tensor in _tensors(raw):
            if tensor.entries:
                found.append(ExternalTensor(_text(tensor.name), tuple((_text(key), _text(value)) for key, value in tensor.entries)))
            if len(found) > MAX_EXTERNAL_TENSORS:
                raise ImportRefused(f"The model names external data for more than {MAX_EXTERNAL_TENSORS} tensors.", code="LIMIT_EXCEEDED")
    except (_Torn, _NoProtobuf):
        raise ImportRefused(
            "The model is damaged inside: a part of it is longer than what holds it.", code="TORN_FILE", hint="Copy or export it again."
        ) from None
    return tuple(found)


def _tensors(raw: Raw) -> Iterator[_Tensor]:
    """All TensorProtos, depth first, each complete when it is yielded."""
    stack: list[tuple[str, Iterator[tuple[int, int, int, int]], _Tensor | None]] = [("ModelProto", _fields(raw, 0, len(raw)), None)]
    while stack:
        message, fields, tensor = stack[-1]
        for number, kind, start, end in fields:
            if tensor is not None and kind == _BYTES and number == TENSOR_NAME:
                tensor.name = raw[start:end]
            elif tensor is not None and kind == _BYTES and number == TENSOR_EXTERNAL_DATA:
                tensor.entries.append(_entry(raw, start, end))
            elif kind == _BYTES and number in PATHS[message]:
                if len(stack) >= MAX_NESTING:
                    raise ImportRefused(f"The model's graphs lie more than {MAX_NESTING // 3} deep in one another.", code="LIMIT_EXCEEDED")
                child = PATHS[message][number]
                stack.append((child, _fields(raw, start, end), _Tensor() if child == "TensorProto" else None))
                break
        else:
            stack.pop()
            if tensor is not None:
                yield tensor


def _entry(raw: Raw, start: int, end: int) -> tuple[bytes, bytes]:
    """Key and value of a StringStringEntryProto; of a field given twice the last counts, as in every protobuf parser."""
    key = value = b""
    for number, kind, at, stop in _fields(raw, start, end):
        if kind == _BYTES and number == ENTRY_KEY:
            key = raw[at:stop]
        elif kind == _BYTES and number == ENTRY_VALUE:
            value = raw[at:stop]
    return key, value


def _fields(raw: Raw, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and end of each field's value between two offsets."""
    while at < end:
        tag, at = _varint(raw, at, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _NoProtobuf
        if kind == _VARINT:
            start = at
            _, at = _varint(raw, at, end)
        elif kind == _BYTES:
            length, start = _varint(raw, at, end)
            at = start + length
        elif kind in (_FIXED32, _FIXED64):
            start, at = at, at + (8 if kind == _FIXED64 else 4)
        else:
            raise _NoProtobuf
        if at > end:
            raise _Torn(at)
        yield number, kind, start, at


def _varint(raw: Raw, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= end:
            raise _Torn(at + 1)
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise _NoProtobuf


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
