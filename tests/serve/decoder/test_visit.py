"""How a large body leaves the front's memory: whole, or not at all."""

from __future__ import annotations

import asyncio
import os
import resource
from types import SimpleNamespace
from typing import Any

import pytest

from towline.serve.decoder.visit import SLICE_BYTES, Visit

BODY = os.urandom(2 * SLICE_BYTES + 100)


def visit() -> Visit:
    exchange: Any = SimpleNamespace(body_bytes=len(BODY), parts=[BODY[:100], BODY[100:]], room=None, body=b"")
    return Visit(1, exchange, lambda response: None)


def test_a_body_in_pieces_is_copied_whole_and_let_go_of() -> None:
    copied = visit()
    asyncio.run(copied.copy_out())

    assert os.pread(copied.file, len(BODY) + 1, 0) == BODY
    assert copied.exchange.parts is None
    copied.end()


def test_a_body_that_the_system_takes_in_part_is_refused_and_not_read_as_torn() -> None:
    """The kernel writes what there is room for, and fails only when it is asked for the rest: here for the last fifty bytes."""
    copied, limits = visit(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BODY) - 50, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            asyncio.run(copied.copy_out())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert copied.file == -1


def test_who_leaves_meanwhile_leaves_no_file() -> None:
    copied = visit()

    async def leave() -> None:
        copying = asyncio.ensure_future(copied.copy_out())
        await asyncio.sleep(0)
        copied.end()
        await copying

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(leave())

    assert (copied.file, len(os.listdir("/proc/self/fd"))) == (-1, before)
