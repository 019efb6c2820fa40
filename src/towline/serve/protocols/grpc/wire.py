"""Protobuf's wire format, where bytes are put together or looked through without a message object. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Kinds of fields by how their values are written: numbers of 7 bits a byte, of eight bytes, of four, and what has a length.
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
# Of a field's number, and of a length.
_MAX_HEAD_BYTES = 5


class NotPlain(ValueError):
    """These bytes are not written as every serialiser writes them; whether they are a message is for protobuf to say."""


def delimited(number: int, payload: bytes) -> bytes:
    """Field `number` with a string, bytes, a packed list or an encoded message as its value."""
    return head(number, len(payload)) + payload


def head(number: int, size: int) -> bytes:
    """What is written before a value of `size` bytes."""
    return varint(number << 3 | LENGTH) + varint(size)


def nested(number: int, parts: Sequence[bytes]) -> tuple[bytes, ...]:
    """The same of a value in parts, still in parts: what is long is joined once, at the end."""
    return head(number, sum(map(len, parts))), *parts


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def fields(message: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """Each field's number, kind, and where it begins, its value begins, and both end. Raises NotPlain."""
    at, end = 0, len(message)
    while at < end:
        begin = at
        key, at = _head(message, at)
        number, kind = key >> 3, key & 7
        value = at
        if kind == LENGTH:
            size, value = _head(message, at)
            at = value + size
        elif kind == VARINT:
            while at < end and message[at] & 0x80:
                at += 1
            at += 1
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise NotPlain
        if at > end or not number:
            raise NotPlain
        yield number, kind, begin, value, at


def _head(message: memoryview, at: int) -> tuple[int, int]:
    """A varint as short as it can be, and where it ends."""
    number = 0
    for place, octet in enumerate(message[at : at + _MAX_HEAD_BYTES]):
        number |= (octet & 0x7F) << 7 * place
        if not octet & 0x80:
            if place and not octet:
                break
            return number, at + place + 1
    raise NotPlain
