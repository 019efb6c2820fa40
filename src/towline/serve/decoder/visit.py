"""One large request at the desk, from its last byte to its answer, and how its body leaves the front's memory."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

import numpy as np

from towline.core.errors import TowlineError
from towline.serve.contract import HttpResponse, Reply
from towline.serve.decoder import messages
from towline.serve.decoder.process import Decoder
from towline.serve.protocols.errors import own_error
from towline.serve.protocols.exchange import Exchange

# What the event loop copies in one of its turns.
SLICE_BYTES = 256 << 10


class Visit:
    """One large request, from its last byte to its answer."""

    def __init__(self, id: int, exchange: Exchange, reply: Reply) -> None:
        self.id, self.exchange, self.reply = id, exchange, reply
        self.size = exchange.body_bytes
        # The body, once it was copied out of the front's own memory.
        self.file = -1
        self.reads = 0
        # Who was given it to read, and is to write its answer.
        self.decoder: Decoder | None = None
        self.is_over = False
        self.timer: asyncio.TimerHandle | None = None
        self.cancel_run: Callable[[], None] | None = None

    def answer(self, response: HttpResponse) -> None:
        if not self.is_over:
            self.end()
            self.reply(response)

    def refuse(self, error: TowlineError) -> None:
        self.answer(own_error(error, self.exchange))

    def end(self) -> None:
        self.is_over = True
        self.exchange.parts = self.exchange.room = None
        if self.timer is not None:
            self.timer.cancel()
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    async def copy_out(self) -> None:
        """Write the body to a file of memory, a slice in each turn of the loop, and give its own memory back."""
        exchange = self.exchange
        pieces: deque[bytes | bytearray | memoryview] = deque(exchange.parts or ())
        if not pieces:
            pieces.append(exchange.body if exchange.room is None else exchange.room)
        exchange.parts, exchange.room, exchange.body = None, None, b""
        file = messages.memory_file(0)
        try:
            while pieces and not self.is_over:
                piece = memoryview(pieces.popleft())
                while piece and not self.is_over:
                    piece = piece[os.write(file, piece[:SLICE_BYTES]) :]
                    await asyncio.sleep(0)
        except BaseException:
            os.close(file)
            raise
        if self.is_over:
            os.close(file)
        else:
            self.file = file


async def copied(descriptors: list[int], size: int) -> np.ndarray:
    """At most `size` bytes of a file of memory, a slice in each turn of the loop. Never mapped: its other end might cut it short."""
    # Not filled with zeros first, as a bytearray would be.
    raw = np.empty(size, np.uint8)
    done = 0
    while done < size and (got := os.preadv(descriptors[0], [raw.data[done : done + SLICE_BYTES]], done)):
        done += got
        if done > SLICE_BYTES:
            await asyncio.sleep(0)
    return raw[:done]
