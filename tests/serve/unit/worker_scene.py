"""A worker as the front sees it; the test is the process at the other end, and has the ends of its pipes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from towline.core import channel
from towline.core.arena import Arena
from towline.serve.workers.process import Worker

SLOT_BYTES = 1 << 16


class WorkerScene:
    def __init__(self, slots: int = 2) -> None:
        link, self.link = channel.channel()
        control, self.control = channel.channel()
        self.worker = Worker(asyncio.get_running_loop(), link, control)
        self.arena = Arena.create(slots=slots, slot_bytes=SLOT_BYTES)
        self.worker.use_arena(self.arena)
        self.results: list[Any] = []
        self.deaths = 0
        self.worker.on_batch = lambda batch, result, spent_us: self.results.append(result)
        self.worker.on_death = self._on_death
        self.pipes: list[int] = []

    def _on_death(self, worker: Worker) -> None:
        self.deaths += 1

    async def start(self, answer: dict[str, Any], *, threads: int = 2, ahead: int = 0) -> None:
        starting = asyncio.ensure_future(self.worker.start(threads, ahead=ahead))
        await asyncio.sleep(0)
        received = channel.receive(self.control)
        assert received is not None
        self.pipes = received[1]
        channel.send(self.control, answer)
        await starting

    def close(self) -> None:
        self.worker.close()
        for end in (self.link, self.control):
            end.close()
        for pipe in self.pipes:
            os.close(pipe)
