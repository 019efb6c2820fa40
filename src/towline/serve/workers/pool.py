"""Workers ready to load: one spare, and those that import has already loaded and proved."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Container
from typing import Any, Protocol

from towline.core import channel
from towline.core.arena import Arena
from towline.core.errors import TowlineError, Unavailable
from towline.serve.workers.hub import Exit
from towline.serve.workers.process import Worker
from towline.serve.workers.sizes import ArenaSize

log = logging.getLogger("towline.serve")

_FORKED_ENGINE = "onnxruntime"
_BIRTH_TIMEOUT_S = 30.0
_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5)
_PING_LIMIT_S = 2.0
# An adopted worker is wanted at once or not at all.
_ADOPTION_S = 30.0


class Undertaker(Protocol):
    """Who makes and ends processes for us (serve/workers/hub.py)."""

    def spawn(self, engine: str, link: socket.socket, control: socket.socket) -> None: ...

    def kill(self, pid: int) -> None: ...

    async def exit_of(self, pid: int) -> Exit: ...


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
        if self._is_closed or (self._spare is not None and not self._spare.is_dead):
            return
        try:
            self._spare = self._spawn(_FORKED_ENGINE)
        except OSError as error:
            # No descriptors left, say. The next load asks for a worker of its own.
            log.warning("no spare worker could be asked for: %s", error)

    async def spare_is_born(self) -> None:
        """Wait until no spare worker is starting any more, whether or not there is one then: its start takes a core for a while."""
        worker = self._spare
        if worker is not None:
            await asyncio.wait([worker.born])

    async def take(self, engine: str) -> Worker:
        """A living, unloaded worker. Tries again when the one it got died young (the fork server may just have been replaced).

        Raises Unavailable when there is none for half a minute.
        """
        until_s = self._loop.time() + _BIRTH_TIMEOUT_S
        attempt = 0
        # Who was killed because we end here must not be made good: nobody would end the new one.
        while not self._is_closed and (left_s := until_s - self._loop.time()) > 0:
            worker = await self._living(engine, left_s)
            if worker is not None:
                self._loop.call_soon(self.keep_spare)
                return worker
            await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            attempt += 1
        raise Unavailable("No worker process could be started.", code="NO_WORKER", retry_after_s=5.0, hint="See the server's log.")

    async def _living(self, engine: str, timeout_s: float) -> Worker | None:
        """The spare or a new worker, once it has answered; None when it did not."""
        worker = self._spare if engine == _FORKED_ENGINE else None
        if worker is not None:
            self._spare = None
        try:
            if worker is None or worker.is_dead:
                worker = self._spawn(engine)
            await asyncio.wait_for(asyncio.shield(worker.born), timeout_s)
            # The spare may have been stopped since it was born; loading would wait for it much longer.
            await worker.ask({"do": "ping"}, timeout_s=_PING_LIMIT_S)
        except (TowlineError, TimeoutError, OSError) as error:
            if isinstance(error, OSError):
                log.warning("a worker could not be asked for: %s", error)
            if worker is not None:
                self.end(worker)
            return None
        return worker

    def adopt(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Take over a worker that has loaded `digest` already: it was used to prove the version at import."""
        link_fd, control_fd, inputs_fd, outputs_fd = descriptors
        worker = Worker(self._loop, socket.socket(fileno=link_fd), socket.socket(fileno=control_fd))
        worker.pid = int(message["pid"])
        worker.born.set_result(None)
        worker.use_arena(Arena(inputs_fd, outputs_fd, slots=int(message["slots"]), slot_bytes=int(message["slot_bytes"])))
        earlier = self._adopted.pop(message["digest"], None)
        if earlier is not None:
            self.end(earlier)
        self._adopted[message["digest"]] = worker
        self._loop.call_later(_ADOPTION_S, self._send_away, message["digest"], worker)

    def adopted(self, digest: str) -> Worker | None:
        worker = self._adopted.pop(digest, None)
        return worker if worker is not None and not worker.is_dead else None

    def keep_adopted(self, digests: Container[str]) -> None:
        """Send away those that have loaded what nobody asks for: the older numbers of a watched folder, say."""
        for digest, worker in list(self._adopted.items()):
            if digest not in digests:
                self._send_away(digest, worker)

    def _send_away(self, digest: str, worker: Worker) -> None:
        if self._adopted.get(digest) is worker:
            del self._adopted[digest]
            self.end(worker)

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
        try:
            control, their_control = channel.channel()
        except OSError:
            link.close()
            their_link.close()
            raise
        self.hub.spawn(engine, their_link, their_control)
        return Worker(self._loop, link, control)
