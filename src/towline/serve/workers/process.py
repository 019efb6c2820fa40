"""One engine process as the front sees it: a link for batches, a control channel for everything else, memory both can see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from towline.core import channel
from towline.core.arena import KEEP_BYTES, Arena
from towline.core.errors import EngineError, Kind, TowlineError, Unavailable, VersionError
from towline.core.frames import FrameError, FrameReader, FrameTooLarge, FrameWriter
from towline.core.worker_messages import BATCH, DONE, ENDED, FAILED, MAX_ERROR_BYTES, MOVE, PART, RUN, STREAM, error_from
from towline.serve.jobs import Batch

Finish = Callable[[Batch, "dict[str, Any] | TowlineError", int], None]
PassOn = Callable[[Batch, dict[str, Any], Callable[[], None]], None]


@dataclass(frozen=True)
class Loading:
    """What a worker is asked to load, and how: the sealed folder and its digest, the manifest's JSON; `threads` that one run may use."""

    folder: str
    digest: str
    manifest: str
    device: str
    threads: int = 1


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
        self._control = control
        # Batches go over the link until the threads that run them have moved to pipes: ours to read, ours to write.
        self._send: Callable[[bytes], int] = link.send
        self._pipes: tuple[int, int] | None = None
        self._free: list[int] = []
        self._writers: list[FrameWriter] = []
        self._readers: list[FrameReader] = []
        self._running: dict[int, tuple[Batch, int]] = {}
        # Slots whose last part was not answered yet, and that part's number.
        self._turns: dict[int, int] = {}
        self._parts = 0
        # Slots whose run was asked to stop and whose worker has not heard it yet; the end of a run that did not wait for that.
        self._stopping: dict[int, Callable[[], None] | None] = {}
        self._answers: deque[asyncio.Future[dict[str, Any]]] = deque()
        link.setblocking(False)
        control.setblocking(False)
        loop.add_reader(link.fileno(), self._hear, link.recv, 64)
        loop.add_reader(control.fileno(), self._on_control)

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
            self.on_batch(batch, _unwritten(error), 0)
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
        except _UNREADABLE:
            result = _unread()
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
        start = slot * self.arena.slot_bytes
        return error_from(json.loads(self.arena.outputs[start : start + min(size_bytes, MAX_ERROR_BYTES)]), EngineError)

    def _heed_stream(self, slot: int, what: int, argument: int) -> bool:
        """Take a part of a stream, or its end; False when the worker was not asked for it."""
        batch, _ = self._running.get(slot, (None, 0))
        if batch is None or batch.jobs[0].on_part is None or slot in self._turns:
            return False
        if what == ENDED:
            self._finish(slot, {}, argument)
        elif what == PART:
            self._take_part(slot, batch)
        return what in (ENDED, PART)

    def _take_part(self, slot: int, batch: Batch) -> None:
        self._parts += 1
        turn = self._turns[slot] = self._parts
        try:
            part = self._readers[slot].read()
        except _UNREADABLE:
            part = None
        try:
            if part is None:
                batch.fail(_unread())
            else:
                self.on_part(batch, part, partial(self._answer_part, slot, turn))
        except Exception:
            # A protocol failed over it: nobody would ever ask for the next part.
            batch.fail(TowlineError("The server failed to pass on a part of the answer; its log says why."))
            raise
        finally:
            if not batch.is_wanted:
                self._answer_part(slot, turn)

    def _answer_part(self, slot: int, turn: int) -> None:
        """Ask for the next part of a stream, or end it when nobody wants more. Once for each part."""
        if self._turns.get(slot) == turn:
            del self._turns[slot]
            self._say({"do": "more" if self._running[slot][0].is_wanted else "stop", "slot": slot})

    def terminate_runs(self) -> None:
        """Ask the engine to stop every run nobody waits for. A run ends here, and gives its slot back, once the engine was told."""
        for slot, (batch, _) in self._running.items():
            if batch.is_wanted:
                continue
            if slot in self._turns:
                self._answer_part(slot, self._turns[slot])
            elif slot not in self._stopping:
                self._stopping[slot] = None
                self._begin_to_ask({"do": "terminate", "slot": slot}).add_done_callback(partial(self._on_told, slot))

    def _on_told(self, slot: int, answer: asyncio.Future[dict[str, Any]]) -> None:
        finish = self._stopping.pop(slot)
        # An engine that cannot stop a run may say so: looked at, or it would be logged as lost.
        answer.exception()
        if finish is not None and not self.is_dead:
            finish()

    # Control

    async def load(self, what: Loading, *, arena: Arena, timeout_s: float) -> None:
        """Load a version; from here on the arena is the worker's to close.

        Raises VersionError with the engine's reason; Unavailable when the worker died or took too long.
        """
        inputs_fd, outputs_fd = arena.worker_descriptors()
        try:
            message = {"do": "load", **asdict(what)}
            descriptors = (inputs_fd, outputs_fd)
            answer = await self.ask(message | {"slots": arena.slots, "slot_bytes": arena.slot_bytes}, descriptors, timeout_s=timeout_s)
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

    async def start(self, threads: int) -> None:
        assert self.arena is not None
        threads = min(threads, self.arena.slots)
        (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
        try:
            await self.ask({"do": "start", "threads": threads}, (their_in, their_out), timeout_s=10.0)
            if self.is_dead:
                raise Unavailable("The worker process has ended.", code="WORKER_DIED")
        except BaseException:
            os.close(our_in)
            os.close(our_out)
            raise
        finally:
            os.close(their_in)
            os.close(their_out)
        self._move(our_in, our_out, threads)
        self.threads = self.idle = threads

    def _move(self, to_read: int, to_write: int, threads: int) -> None:
        """Have each thread go on with its batches on the pipes."""
        self._pipes = (to_read, to_write)
        for end in self._pipes:
            os.set_blocking(end, False)
        self._loop.add_reader(to_read, self._hear, partial(os.read, to_read), BATCH.size)
        self._send = partial(os.write, to_write)
        with contextlib.suppress(OSError):
            # When it is dying, the end of its link says so in a moment.
            for _ in range(threads):
                self._link.send(BATCH.pack(0, MOVE, 0))

    async def ask(self, message: dict[str, Any], descriptors: tuple[int, ...] = (), *, timeout_s: float) -> dict[str, Any]:
        if self.is_dead:
            raise Unavailable("The worker process has ended.")
        try:
            return await asyncio.wait_for(asyncio.shield(self._begin_to_ask(message, descriptors)), timeout_s)
        except TimeoutError:
            raise Unavailable(f"The worker did not answer '{message['do']}' within {timeout_s:g} s.", code="LOAD_TIMEOUT") from None

    def _begin_to_ask(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> asyncio.Future[dict[str, Any]]:
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._answers.append(future)
        self._say(message, descriptors)
        return future

    def _say(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        try:
            channel.send(self._control, message, descriptors)
        except OSError:
            pass

    def _on_control(self) -> None:
        try:
            received = channel.receive(self._control)
        except BlockingIOError:
            return
        except (OSError, TowlineError):
            received = None
        if received is None:
            self._die()
            return
        message, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            self._heed(message)
        except (TypeError, ValueError):
            # Ours never says such a thing: something else speaks through it.
            self._die()

    def _heed(self, message: dict[str, Any]) -> None:
        if "hello" in message:
            self.pid = int(message["hello"])
            if not self.born.done():
                self.born.set_result(None)
        elif self._answers:
            future = self._answers.popleft()
            if future.done():
                return
            if isinstance(message.get("ok"), dict):
                future.set_result(message["ok"])
            else:
                future.set_exception(error_from(message.get("error"), VersionError))

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
        for end in (self._link, self._control):
            self._loop.remove_reader(end.fileno())
            end.close()
        if self._pipes is not None:
            self._loop.remove_reader(self._pipes[0])
            # Never to a number that is another's by now.
            self._send = self._link.send
            for pipe in self._pipes:
                os.close(pipe)
        error = Unavailable("The worker process has ended.", code="WORKER_DIED")
        if not self.born.done():
            self.born.set_exception(error)
            self.born.exception()
        for future in self._answers:
            if not future.done():
                future.set_exception(error)
                future.exception()
        self._writers, self._readers = [], []
        if self.arena is not None:
            self.arena.close()


# What reading the answer of a worker that cannot be trusted may raise.
_UNREADABLE = (TowlineError, ValueError, RecursionError)


def _unread() -> TowlineError:
    return EngineError("The worker's answer could not be read.", code="BAD_OUTPUT")


def _unwritten(error: Exception) -> TowlineError:
    """Why a batch could not be handed to the worker. Of several jobs each is then tried alone."""
    if isinstance(error, FrameTooLarge):
        return TowlineError(error.message, code="TENSORS_TOO_LARGE", kind=Kind.TOO_LARGE)
    return EngineError("The requests of a batch do not fit together.", code="BAD_BATCH")


def _ignore_batch(batch: Batch, result: dict[str, Any] | TowlineError, spent_us: int) -> None:
    """Until a slot takes the worker over, nothing runs on it."""


def _ignore_part(batch: Batch, outputs: dict[str, Any], more: Callable[[], None]) -> None:
    """As with batches."""


def _ignore_death(worker: Worker) -> None:
    """A spare that dies is missed by nobody."""
