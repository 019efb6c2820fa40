"""One engine process as the front sees it: a link for batches, a control channel for everything else, memory both can see."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

from towline.core.arena import KEEP_BYTES, Arena
from towline.core.errors import TowlineError, Unavailable
from towline.core.frames import FrameError, FrameReader, FrameWriter
from towline.core.worker_messages import BATCH, DONE, ENDED, FAILED, MOVE, PART, RUN, STREAM
from towline.serve.jobs import Batch
from towline.serve.workers.control import Control, Loading
from towline.serve.workers.faults import UNREADABLE, unread, unwritten, written_by_worker
from towline.serve.workers.pipes import Pipes, hand_over_pipes
from towline.serve.workers.streams import PassOn, Streams

Finish = Callable[[Batch, "dict[str, Any] | TowlineError", int], None]


class Worker:
    """A worker process. Created over its two sockets; `on_batch`, `on_part` and `on_death` are set by the slot that uses it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: socket.socket, control: socket.socket) -> None:
        self.pid = 0
        self.is_dead = False
        # Its end was closed from the other side.
        self.has_hung_up = False
        self.on_batch: Finish = _ignore_batch
        self.on_part: PassOn = _ignore_part
        self.on_death: Callable[[Worker], None] = _ignore_death
        self.threads = 0
        # How many more batches it could run at once.
        self.idle = 0
        # Whether it pays to run several requests as one batch.
        self.merges = True
        self.max_rows = 0
        self.pads_up_to = 0
        self.memory_bytes = 0
        self.arena: Arena | None = None
        self.born = loop.create_future()
        self._loop = loop
        self._link = link
        self._control = Control(loop, control, on_hello=self._on_hello, on_end=self._die)
        self.ask = self._control.ask
        self._streams = Streams(self._control.say)
        # Batches go over the link until the threads that run them have moved to pipes.
        self._send: Callable[[bytes], int] = link.send
        self._pipes: Pipes | None = None
        self._free: list[int] = []
        self._writers: list[FrameWriter] = []
        self._readers: list[FrameReader] = []
        self._running: dict[int, tuple[Batch, int]] = {}
        # Slots whose run was asked to stop and whose worker has not heard it yet; the end of a run that did not wait for that.
        self._stopping: dict[int, Callable[[], None] | None] = {}
        link.setblocking(False)
        loop.add_reader(link.fileno(), self._hear, link.recv, 64)

    # Batches

    @property
    def running(self) -> list[Batch]:
        return [batch for batch, _ in self._running.values()]

    def run(self, batch: Batch) -> None:
        """Write the batch into a free slot and wake the worker. The answer comes through `on_batch`."""
        slot = self._free.pop()
        try:
            used = self._writers[slot].write(batch.inputs, batch.layout)
        except (FrameError, ValueError, TypeError, IndexError) as error:
            self._free.append(slot)
            self._writers[slot].forget()
            self.on_batch(batch, unwritten(error), 0)
            return
        self._running[slot] = (batch, used)
        self.idle -= 1
        first = batch.jobs[0]
        try:
            self._send(BATCH.pack(slot, RUN if first.on_part is None else STREAM, first.signature))
        except OSError:
            # It is dying; the end of its link says so in a moment, and the batch is in `running` then.
            pass

    def _hear(self, receive: Callable[[int], bytes], size: int) -> None:
        """A message of the link, of which a longer one shows itself, or the next of what stands in the pipe."""
        try:
            message = receive(size)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if len(message) != BATCH.size:
            self._die()
            return
        slot, what, argument = BATCH.unpack(message)
        if slot not in self._running or (what != DONE and what != FAILED):
            # A worker that answers what it was not asked has lost its mind; its memory is not read again.
            if not self._heed_stream(slot, what, argument):
                self._die()
            return
        result: dict[str, Any] | TowlineError
        try:
            result = self._readers[slot].read() if what == DONE else self._error(slot, argument)
        except UNREADABLE:
            result = unread()
        self._finish(slot, result, argument if what == DONE else 0)

    def _finish(self, slot: int, result: dict[str, Any] | TowlineError, spent_us: int) -> None:
        if slot in self._stopping:
            # The worker has yet to read that this run is to stop: a next one in its slot would be stopped instead.
            self._stopping[slot] = partial(self._finish, slot, result, spent_us)
            return
        batch, used = self._running.pop(slot)
        self.idle += 1
        assert self.arena is not None
        try:
            self.on_batch(batch, result, spent_us)
        finally:
            # Freed even when an answer could not be delivered: one bad reply must not cost the slot.
            if not self.is_dead:
                if used > KEEP_BYTES:
                    self.arena.give_back(slot, used)
                self._free.append(slot)

    def _error(self, slot: int, size_bytes: int) -> TowlineError:
        assert self.arena is not None
        return written_by_worker(self.arena, slot, size_bytes)

    def _heed_stream(self, slot: int, what: int, argument: int) -> bool:
        """Take a part of a stream, or its end; False when the worker was not asked for it."""
        batch, _ = self._running.get(slot, (None, 0))
        if batch is None or batch.jobs[0].on_part is None or self._streams.is_owed(slot):
            return False
        if what == ENDED:
            self._finish(slot, {}, argument)
        elif what == PART:
            self._streams.take_part(slot, batch, self._readers[slot], self.on_part)
        return what in (ENDED, PART)

    def terminate_runs(self) -> None:
        """Ask the engine to stop every run nobody waits for. A run ends here, and gives its slot back, once the engine was told."""
        # What was given ahead has not begun: an engine does not know yet what it should stop.
        for slot, (batch, _) in islice(self._running.items(), self.threads):
            if batch.is_wanted:
                continue
            if self._streams.is_owed(slot):
                self._streams.answer(slot)
            elif slot not in self._stopping:
                self._stopping[slot] = None
                self._control.begin_to_ask({"do": "terminate", "slot": slot}).add_done_callback(partial(self._on_told, slot))

    def _on_told(self, slot: int, answer: asyncio.Future[dict[str, Any]]) -> None:
        finish = self._stopping.pop(slot)
        # An engine that cannot stop a run may say so: looked at, or it would be logged as lost.
        answer.exception()
        if finish is not None and not self.is_dead:
            finish()

    # The start

    def _on_hello(self, pid: int) -> None:
        self.pid = pid
        if not self.born.done():
            self.born.set_result(None)

    async def load(self, what: Loading, *, arena: Arena, timeout_s: float) -> None:
        """Load a version; from here on the arena is the worker's to close.

        Raises VersionError with the engine's reason; Unavailable when the worker died or took too long.
        """
        inputs_fd, outputs_fd = arena.worker_descriptors()
        try:
            message = {"do": "load", **asdict(what), "slots": arena.slots, "slot_bytes": arena.slot_bytes}
            answer = await self.ask(message, (inputs_fd, outputs_fd), timeout_s=timeout_s)
        except BaseException:
            arena.close()
            raise
        finally:
            os.close(inputs_fd)
        self.use_arena(arena)
        memory_bytes = answer.get("memory_bytes")
        self.memory_bytes = memory_bytes if isinstance(memory_bytes, int) else 0

    def use_arena(self, arena: Arena) -> None:
        self.arena = arena
        size = arena.slot_bytes
        self._free = list(range(arena.slots))
        self._writers = [FrameWriter(arena.inputs, slot * size, size) for slot in range(arena.slots)]
        self._readers = [FrameReader(arena.outputs, slot * size, size) for slot in range(arena.slots)]

    async def start(self, threads: int, *, ahead: int = 0) -> None:
        """Have `threads` threads of the worker run batches, each from the pipes. So many more are given to it `ahead`, and wait there."""
        assert self.arena is not None
        threads = min(threads, self.arena.slots)
        pipes = self._pipes = await hand_over_pipes(self._control, threads)
        self._loop.add_reader(pipes.to_read, self._hear, partial(os.read, pipes.to_read), BATCH.size)
        self._send = partial(os.write, pipes.to_write)
        with contextlib.suppress(OSError):
            # When it is dying, the end of its link says so in a moment.
            for _ in range(threads):
                self._link.send(BATCH.pack(0, MOVE, 0))
        self.threads, self.idle = threads, min(threads + ahead, self.arena.slots)

    # The end

    def _die(self) -> None:
        if self.is_dead:
            return
        self.has_hung_up = True
        self.close()
        self.on_death(self)

    def close(self) -> None:
        """Close both ends: a worker that is not stuck ends by itself. Batches still running stay in `running`."""
        if self.is_dead:
            return
        self.is_dead = True
        self.idle = 0
        self._loop.remove_reader(self._link.fileno())
        self._link.close()
        if self._pipes is not None:
            self._loop.remove_reader(self._pipes.to_read)
            # Never to a number that is another's by now.
            self._send = self._link.send
            self._pipes.close()
        error = Unavailable("The worker process has ended.", code="WORKER_DIED")
        self._control.close(error)
        if not self.born.done():
            self.born.set_exception(error)
            self.born.exception()
        self._writers, self._readers = [], []
        if self.arena is not None:
            self.arena.close()


def _ignore_batch(batch: Batch, result: dict[str, Any] | TowlineError, spent_us: int) -> None:
    """Until a slot takes the worker over, nothing runs on it."""


def _ignore_part(batch: Batch, outputs: dict[str, Any], more: Callable[[], None]) -> None:
    """As with batches."""


def _ignore_death(worker: Worker) -> None:
    """A spare that dies is missed by nobody."""
