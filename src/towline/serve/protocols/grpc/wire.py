"""Protobuf's wire format, where bytes are put together without a message object. Pure."""

from __future__ import annotations


def delimited(number: int, payload: bytes) -> bytes:
    """Field `number` (1 to 15) with a string, bytes, a packed list or an encoded message as its value."""
    return bytes((number << 3 | 2,)) + varint(len(payload)) + payload


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
