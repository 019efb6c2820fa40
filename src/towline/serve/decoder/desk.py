"""The front's side of the decoder: large requests wait here for it, one after the other, and their arrays go to the data plane."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from towline.core.errors import DeadlineExceeded, EngineError, NotFound, Overloaded, TowlineError, Unavailable
from towline.core.inference import Response
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, Reply, Served
from towline.serve.decoder import messages
from towline.serve.decoder.choice import is_for_decoder
from towline.serve.decoder.process import NOT_OURS, Decoder, start
from towline.serve.decoder.visit import Visit, copied
from towline.serve.protocols.exchange import Exchange
from towline.serve.protocols.table import Found

log = logging.getLogger("towline.serve")
Handle = Callable[[Found, Exchange, Reply], "Callable[[], None] | None"]
MAX_WAITING = 64
# Nobody has sent a large body for so long: the process goes, and gives its memory back.
_IDLE_S = 300.0
# What an answer may come to, by what a request may.
_MAX_EXPANSION = 64
# So often a request is read again because its version was replaced while it was read.
_MAX_READS = 3


@dataclass(frozen=True)
class DeskLimits:
    """What one desk lets its clients do. `max_waiting_bytes` counts the bodies that wait to be read."""

    request: Limits
    max_waiting_bytes: int
    timeout_s: float


class Desk:
    """`handle` answers in the front itself what the decoder declines: answers in parts."""

    def __init__(self, plane: DataPlane, limits: DeskLimits, handle: Handle, *, compat: str = "") -> None:
        self._plane, self._limits, self._handle, self._compat = plane, limits, handle, compat
        self._queue: deque[Visit] = deque()
        self._visits: dict[int, Visit] = {}
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
        self._visits[visit.id] = visit
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
        self._forget(visit)

    def _forget(self, visit: Visit) -> None:
        if self._visits.pop(visit.id, None) is not None and visit.decoder is not None:
            visit.decoder.say({"do": "forget", "id": visit.id})

    def _refuse(self, visit: Visit, error: TowlineError) -> None:
        visit.refuse(error)
        self._forget(visit)

    def _expire(self, visit: Visit) -> None:
        self._refuse(visit, DeadlineExceeded("The deadline of the request passed before its body was read."))
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
                self._refuse(visit, error)
            except OSError as error:
                self._refuse(visit, _no_room(error))
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
            self._tell(message)
            return
        if self._reading is not None and self._reading.id == message["id"]:
            self._has_read.set()
        visit = self._visits.get(message["id"])
        match message["do"]:
            case "infer":
                self._begin(self._infer(visit, message, descriptors), descriptors)
            case "reply":
                self._begin(self._reply(visit, message, descriptors), descriptors)
            case "decline":
                self._begin(self._decline(visit), descriptors)
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

    def _tell(self, asked: dict[str, Any]) -> None:
        told: dict[str, Any]
        try:
            if asked["what"] == "find":
                found = self._plane.find(asked["name"], number=asked["number"], label=asked["label"])
                told = {"served": messages.served_message(found)}
            elif asked["what"] == "only":
                told = {"served": messages.served_message(self._plane.only())}
            else:
                told = {"names": self._plane.names()}
        except TowlineError as error:
            told = {"error": messages.error_message(error)}
        if self._decoder is not None:
            self._decoder.say({"do": "told", **told})

    async def _infer(self, visit: Visit | None, message: dict[str, Any], descriptors: list[int]) -> None:
        """It is read. Its arrays are believed no more than a worker's."""
        raw = await copied(descriptors, min(int(message["size"]), self._most_bytes))
        if visit is None or visit.is_over:
            return
        try:
            # No await between finding a version and handing it the request.
            served = self._same(message)
            if served is None:
                self._read_again(visit)
                return
            request = messages.asked_from(message, raw.data, served, self._limits.request)
        except TowlineError as error:
            self._refuse(visit, error)
            return
        if visit.timer is not None:
            # From here on the data plane keeps the time.
            visit.timer.cancel()
        visit.cancel_run = self._plane.infer(served, request, partial(self._ran, visit), protocol=str(message["protocol"]))

    @property
    def _most_bytes(self) -> int:
        return 4 * self._limits.request.max_request_bytes + (1 << 20)

    def _same(self, message: dict[str, Any]) -> Served | None:
        """The version that a request was read for; None when it has been replaced since."""
        try:
            served = self._plane.find(message["name"], number=int(message["number"]))
        except (NotFound, Unavailable):
            return None
        return served if served.digest == message["digest"] else None

    def _read_again(self, visit: Visit) -> None:
        if visit.reads >= _MAX_READS:
            self._refuse(visit, Unavailable("Its model was replaced again and again while the body was read.", retry_after_s=1.0))
        else:
            visit.decoder = None
            self._enqueue(visit)

    def _ran(self, visit: Visit, result: Response | TowlineError) -> None:
        """Have the decoder write the answer. The arrays are only lent until this returns."""
        if visit.is_over or visit.decoder is None:
            return
        if isinstance(result, TowlineError):
            visit.decoder.say({"do": "ran", "id": visit.id, "error": messages.error_message(result)})
            return
        try:
            file, size = messages.tensors_file(result.outputs)
        except OSError as error:
            self._refuse(visit, _no_room(error))
            return
        visit.decoder.say({"do": "ran", "id": visit.id, "size": size, "name": result.name, "number": result.number}, (file,))
        os.close(file)

    async def _reply(self, visit: Visit | None, message: dict[str, Any], descriptors: list[int]) -> None:
        size = int(message["size"])
        if size > _MAX_EXPANSION * self._limits.request.max_request_bytes:
            raise ValueError(f"an answer of {size} bytes")
        body = await copied(descriptors, size)
        response = messages.response_from(message, body.tobytes())
        if visit is not None and self._visits.pop(visit.id, None) is not None:
            visit.answer(response)

    async def _decline(self, visit: Visit | None) -> None:
        if visit is None or visit.is_over:
            return
        self._visits.pop(visit.id, None)
        # Of its own: its client may go meanwhile, and the file with it.
        file = os.dup(visit.file)
        try:
            body = await copied([file], visit.size)
        finally:
            os.close(file)
        if (found := visit.exchange.found) is not None and visit.file >= 0:
            visit.exchange.body = body.tobytes()
            visit.end()
            visit.cancel_run = self._handle(found, visit.exchange, visit.reply)

    def _on_death(self, decoder: Decoder) -> None:
        """Whoever was being read is told so; what ran has lost who would have written its answer."""
        if self._decoder is decoder:
            self._decoder = None
        for visit in [visit for visit in self._visits.values() if visit.decoder is decoder]:
            if visit is self._reading and not self._has_read.is_set():
                log.error("the process that reads large bodies died of one")
                self._refuse(visit, EngineError("The process that read this body died of it.", code="DECODER_DIED"))
            else:
                lost = "The process that was to write this answer has died."
                self._refuse(visit, Unavailable(lost, code="DECODER_DIED", retry_after_s=1.0))
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


def _no_room(error: OSError) -> Unavailable:
    """No descriptor or no memory is left for a file of memory."""
    log.error("a large body cannot be read: %s", error)
    return Unavailable("The server has no room for a body of this size now.", code="NO_DECODER", retry_after_s=5.0)
