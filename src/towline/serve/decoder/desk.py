"""The front's side of the decoder: large requests wait here for it, and are read one after the other."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from towline.core.errors import DeadlineExceeded, EngineError, Overloaded, TowlineError, Unavailable
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, Reply
from towline.serve.decoder import messages
from towline.serve.decoder.choice import is_for_decoder
from towline.serve.decoder.errands import Errands, Handle
from towline.serve.decoder.process import NOT_OURS, Decoder, start
from towline.serve.decoder.visit import Visit
from towline.serve.decoder.visits import Visits, no_room
from towline.serve.protocols.exchange import Exchange

log = logging.getLogger("towline.serve")
MAX_WAITING = 64
# Nobody has sent a large body for so long: the process goes, and gives its memory back.
_IDLE_S = 300.0


@dataclass(frozen=True)
class DeskLimits:
    """What one desk lets its clients do. `max_waiting_bytes` counts the bodies that wait to be read."""

    request: Limits
    max_waiting_bytes: int
    timeout_s: float


class Desk:
    """`handle` answers in the front itself what the decoder declines: answers in parts."""

    def __init__(self, plane: DataPlane, limits: DeskLimits, handle: Handle, *, compat: str = "") -> None:
        self._limits, self._compat = limits, compat
        self._queue: deque[Visit] = deque()
        self._visits = Visits()
        self._errands = Errands(plane, limits.request, handle, self._visits, read_once_more=self._enqueue)
        self._waiting_bytes = self._count = 0
        self._decoder: Decoder | None = None
        self._reading: Visit | None = None
        # The decoder has read what it was given, whether or not somebody still waits for that.
        self._has_read = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int:
        """Of the decoder; 0 when there is none."""
        return self._decoder.pid if self._decoder is not None else 0

    @property
    def is_reading(self) -> bool:
        """The decoder has a body in its hands."""
        return self._reading is not None and self._reading.decoder is not None and not self._has_read.is_set()

    def wants(self, exchange: Exchange) -> bool:
        return is_for_decoder(exchange)

    def take(self, exchange: Exchange, reply: Reply) -> Callable[[], None]:
        """Have a complete request read and run, and its answer given to `reply`; returns what gives it up."""
        self._count += 1
        visit = Visit(self._count, exchange, reply)
        if len(self._queue) >= MAX_WAITING or self._waiting_bytes + visit.size > self._limits.max_waiting_bytes:
            visit.refuse(Overloaded("The server has as many large bodies to read as it has room for.", retry_after_s=1.0))
            return partial(self._leave, visit)
        loop = asyncio.get_running_loop()
        left_s = self._limits.timeout_s - (loop.time() - exchange.received_s)
        visit.timer = loop.call_later(max(left_s, 0.0), self._expire, visit)
        self._visits.add(visit)
        self._enqueue(visit)
        return partial(self._leave, visit)

    def _enqueue(self, visit: Visit) -> None:
        self._queue.append(visit)
        self._waiting_bytes += visit.size
        if self._idle is not None:
            self._idle.cancel()
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._read_all())

    def _leave(self, visit: Visit) -> None:
        """Its client has gone."""
        visit.end()
        if visit.cancel_run is not None:
            visit.cancel_run()
        self._visits.forget(visit)

    def _expire(self, visit: Visit) -> None:
        self._visits.refuse(visit, DeadlineExceeded("The deadline of the request passed before its body was read."))
        if visit is self._reading and visit.decoder is not None:
            visit.decoder.end()

    # One after the other

    async def _read_all(self) -> None:
        while self._queue:
            visit = self._queue.popleft()
            self._waiting_bytes -= visit.size
            if visit.is_over:
                continue
            self._reading = visit
            try:
                await self._read(visit)
            except TowlineError as error:
                self._visits.refuse(visit, error)
            except OSError as error:
                self._visits.refuse(visit, no_room(error))
            finally:
                self._reading = None
        self._idle = asyncio.get_running_loop().call_later(_IDLE_S, self.close)

    async def _read(self, visit: Visit) -> None:
        if visit.file < 0:
            await visit.copy_out()
        if self._decoder is None:
            self._decoder = await start(asdict(self._limits.request), self._compat, self._on_message, self._on_death)
        if visit.is_over:
            return
        exchange = visit.exchange
        message = {"do": "read", "id": visit.id, "size": visit.size, "target": exchange.url.decode("latin-1")}
        visit.reads += 1
        visit.decoder = self._decoder
        self._has_read.clear()
        visit.decoder.say(message | messages.request_message(exchange), (visit.file,))
        await self._has_read.wait()

    # From the decoder

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["do"] == "ask":
            if descriptors:
                raise ValueError("a question comes without a file")
            if self._decoder is not None:
                self._decoder.say({"do": "told", **self._errands.tell(message)})
            return
        if self._reading is not None and self._reading.id == message["id"]:
            self._has_read.set()
        visit = self._visits.get(message["id"])
        match message["do"]:
            case "infer":
                self._begin(self._errands.infer(visit, message, descriptors), descriptors)
            case "reply":
                self._begin(self._errands.reply(visit, message, descriptors), descriptors)
            case "decline":
                self._begin(self._errands.decline(visit), descriptors)
            case said:
                raise ValueError(f"it says '{said}'")

    def _begin(self, work: Coroutine[Any, Any, None], descriptors: list[int]) -> None:
        task = asyncio.ensure_future(self._guarded(work, descriptors))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None], descriptors: list[int]) -> None:
        try:
            await work
        except (OSError, *NOT_OURS):
            log.exception("the process that reads large bodies said what cannot be")
            self.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _on_death(self, decoder: Decoder) -> None:
        """Whoever was being read is told so; what ran has lost who would have written its answer."""
        if self._decoder is decoder:
            self._decoder = None
        for visit in self._visits.of(decoder):
            if visit is self._reading and not self._has_read.is_set():
                log.error("the process that reads large bodies died of one")
                self._visits.refuse(visit, EngineError("The process that read this body died of it.", code="DECODER_DIED"))
            else:
                lost = "The process that was to write this answer has died."
                self._visits.refuse(visit, Unavailable(lost, code="DECODER_DIED", retry_after_s=1.0))
        self._has_read.set()

    def close(self) -> None:
        """End the process; it is started again when it is needed."""
        if self._decoder is not None:
            self._decoder.end()

    async def ended(self) -> None:
        """Close for good, and wait until nothing of it is left."""
        decoder = self._decoder
        self.close()
        for task in (self._work, *self._tasks):
            if task is not None:
                task.cancel()
        if decoder is not None:
            await decoder.ended()
