"""A pool that was closed makes no worker: whoever would end it has gone."""

from __future__ import annotations

import asyncio
import socket

import pytest

from towline.core.errors import Unavailable
from towline.serve.workers.hub import Exit
from towline.serve.workers.pool import Pool
from towline.serve.workers.sizes import ArenaSize


class Undertaker:
    def __init__(self) -> None:
        self.spawned: list[str] = []

    def spawn(self, engine: str, link: socket.socket, control: socket.socket) -> None:
        self.spawned.append(engine)
        link.close()
        control.close()

    def kill(self, pid: int) -> None:
        """Nothing that was spawned lives."""

    async def exit_of(self, pid: int) -> Exit:
        return Exit(9)


def test_a_closed_pool_makes_no_worker() -> None:
    hub = Undertaker()

    async def work() -> None:
        pool = Pool(asyncio.get_running_loop(), hub, ArenaSize(slots=1, slot_bytes=1 << 16))
        pool.close()
        with pytest.raises(Unavailable, match="No worker"):
            await pool.take("onnxruntime")

    asyncio.run(asyncio.wait_for(work(), 10))

    assert hub.spawned == []
