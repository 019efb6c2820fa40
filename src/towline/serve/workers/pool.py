"""Workers ready to load: one spare, and those that import has already loaded and proved."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import Any, Protocol

from towline.core import channel
from towline.core.arena import Arena
from towline.core.errors import TowlineError, Unavailable
from towline.serve.workers.hub import Exit
from towline.serve.workers.process import Worker

_FORKED_ENGINE = "onnxruntime"
_BIRTH_TIMEOUT_S = 30.0
_BIRTH_TRIES = 5


class Undertaker(Protocol):
    """Who makes and ends processes for us (serve/workers/hub.py)."""

    def spawn(self, engine: str, link: socket.socket, control: socket.socket) -> None: ...

    def kill(self, pid: int) -> None: ...

    async def exit_of(self, pid: int) -> Exit: ...


@dataclass(frozen=True)
class ArenaSize:
    slots: int
    slot_bytes: int

    def create(self) -> Arena:
        return Arena.create(slots=self.slots, slot_bytes=self.slot_bytes)


class Pool:
    def __init__(self, loop: asyncio.AbstractEventLoop, hub: Undertaker, arena_size: ArenaSize) -> None:
        self.hub = hub
        self.arena_size = arena_size
        self._loop = loop
        self._spare: Worker | None = None
        self._adopted: dict[str, Worker] = {}
        self._is_closed = False

    def keep_spare(self) -> None:
        """Have one unloaded worker waiting, so that the next load or restart does not wait for a process to start."""
        if not self._is_closed and (self._spare is None or self._spare.is_dead):
            self._spare = self._spawn(_FORKED_ENGINE)

    async def take(self, engine: str) -> Worker:
        """A living, unloaded worker. Tries again when the one it got died young (the fork server may just have been replaced)."""
        for attempt in range(_BIRTH_TRIES):
            worker = self._spare if engine == _FORKED_ENGINE else None
            if worker is None or worker.is_dead:
                worker = self._spawn(engine)
            else:
                self._spare = None
            try:
                await asyncio.wait_for(asyncio.shield(worker.born), _BIRTH_TIMEOUT_S)
            except (TowlineError, TimeoutError):
                worker.close()
                await asyncio.sleep(0.02 * 2**attempt)
                continue
            self._loop.call_soon(self.keep_spare)
            return worker
        raise Unavailable("No worker process could be started.", code="NO_WORKER", retry_after_s=5.0, hint="See the server's log.")

    def adopt(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Take over a worker that has loaded `digest` already: it was used to prove the version at import."""
        link_fd, control_fd, inputs_fd, outputs_fd = descriptors
        worker = Worker(self._loop, socket.socket(fileno=link_fd), socket.socket(fileno=control_fd))
        worker.pid = int(message["pid"])
        worker.born.set_result(None)
        worker.use_arena(Arena(inputs_fd, outputs_fd, slots=int(message["slots"]), slot_bytes=int(message["slot_bytes"])))
        earlier = self._adopted.pop(message["digest"], None)
        if earlier is not None:
            earlier.close()
        self._adopted[message["digest"]] = worker

    def adopted(self, digest: str) -> Worker | None:
        worker = self._adopted.pop(digest, None)
        return worker if worker is not None and not worker.is_dead else None

    def end(self, worker: Worker) -> None:
        """Close a worker for good. Killed as well: one that hangs in a run would not notice that its channel is closed."""
        pid = worker.pid
        worker.close()
        self.hub.kill(pid)

    def close(self) -> None:
        self._is_closed = True
        for worker in (self._spare, *self._adopted.values()):
            if worker is not None:
                self.end(worker)

    def _spawn(self, engine: str) -> Worker:
        link, their_link = channel.channel()
        control, their_control = channel.channel()
        self.hub.spawn(engine, their_link, their_control)
        return Worker(self._loop, link, control)


def default_arena_size(max_request_bytes: int) -> ArenaSize:
    """A JSON body may grow fourfold when decoded. Sparse memory: only what is written is paid for."""
    page = os.sysconf("SC_PAGE_SIZE")
    slot_bytes = -(-(4 * max_request_bytes + (1 << 20)) // page) * page
    return ArenaSize(slots=min(max(os.cpu_count() or 1, 2), 16), slot_bytes=slot_bytes)
