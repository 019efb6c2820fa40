"""Messages and descriptors between our own processes on one machine, over a SOCK_SEQPACKET socketpair.

A message is a JSON object. One too large for a datagram travels as a memfd beside an empty datagram's worth of marker.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from towline.core.errors import TowlineError

MAX_DATAGRAM_BYTES = 60_000
MAX_MESSAGE_BYTES = 64 << 20
MAX_DESCRIPTORS = 8
_SPILLED = b'{"spilled": true}'


def channel() -> tuple[socket.socket, socket.socket]:
    """Two connected ends. Neither is inherited by a child unless it is passed on purpose."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message; the other end receives duplicates of `descriptors`. Raises OSError when the other end is gone."""
    raw = json.dumps(message, separators=(",", ":")).encode()
    if len(raw) <= MAX_DATAGRAM_BYTES:
        _send(end, raw, descriptors)
        return
    spill = os.memfd_create("towline-message", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(spill), "wb") as file:
            file.write(raw)
        _send(end, _SPILLED, [spill, *descriptors])
    finally:
        os.close(spill)


def _send(end: socket.socket, raw: bytes, descriptors: Sequence[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    end.sendmsg([raw], ancillary)


def receive(end: socket.socket, flags: int = 0) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors (the caller closes them), or None when the other end is gone.

    Raises BlockingIOError on a non-blocking end with nothing to read, TowlineError on what is not a message.
    """
    try:
        raw, ancillary = _receive(end, flags)
    except ConnectionResetError:
        # The other end went without reading all we sent. The kernel says so once, before what it had still said itself.
        try:
            raw, ancillary = _receive(end, flags)
        except ConnectionResetError:
            return None
    descriptors: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
            descriptors.extend(numbers)
    if not raw:
        return None
    if raw == _SPILLED and descriptors:
        with os.fdopen(descriptors.pop(0), "rb") as file:
            file.seek(0)
            raw = file.read(MAX_MESSAGE_BYTES)
    message = _decoded(raw)
    if message is None:
        for descriptor in descriptors:
            os.close(descriptor)
        raise TowlineError("A process of ours sent something that is not a message.", code="BAD_MESSAGE")
    return message, descriptors


def _receive(end: socket.socket, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    room = socket.CMSG_SPACE((MAX_DESCRIPTORS + 1) * array.array("i").itemsize)
    raw, ancillary, _, _ = end.recvmsg(MAX_DATAGRAM_BYTES + 1, room, flags | socket.MSG_CMSG_CLOEXEC)
    return raw, ancillary


def _decoded(raw: bytes) -> dict[str, Any] | None:
    """A worker may send anything: bytes that are no text, text nested deeper than the parser goes, JSON that is no object."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
