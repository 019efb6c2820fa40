"""`ModelStreamInfer`, as Triton speaks it: many requests on one call; an error of one of them is a message and not the end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

from towline.core.errors import TowlineError
from towline.core.inference import Response
from towline.core.refs import clip
from towline.serve.contract import DataPlane
from towline.serve.protocols.grpc import openinference_codec
from towline.serve.protocols.grpc.calls import Work, refused
from towline.serve.protocols.grpc.contract import Call, Cancel, Refusal, Refused, Stream
from towline.serve.protocols.grpc.lifting import Lifted
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import OPEN_INFERENCE
from towline.serve.protocols.grpc.wire import delimited
from towline.serve.protocols.openinference_parameters import MAX_ID

# Requests of one stream that are running or whose answers wait to be written; with so many, no further one is read.
MAX_IN_FLIGHT = 64
# A client that sends this wants the first error to be the stream's status.
ERROR_AS_STATUS = "triton_grpc_error"
WANTS_FINAL = "triton_enable_empty_final_response"
_Prepare = Callable[[Any, Lifted, Call], Work]
_Answer = MESSAGES["inference.ModelInferResponse"]
_Message = MESSAGES["inference.ModelStreamInferResponse"]


def _parameters(*, is_final: bool) -> dict[str, dict[str, bool]]:
    return {"triton_final_response": {"bool_param": is_final}}


def _nothing() -> None:
    """Nobody waits."""


_FINAL, _NOT_FINAL = (_Answer(parameters=_parameters(is_final=is_final)).SerializeToString() for is_final in (True, False))


def stream(plane: DataPlane, protocol: str, prepare: _Prepare) -> Stream:
    async def method(requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
        talk = _Talk(plane, protocol, prepare, call)
        reader = asyncio.ensure_future(talk.listen(requests))
        try:
            while True:
                for message in talk.speak():
                    yield message
                if reader.done() and talk.has_told_all():
                    break
                await talk.news()
            reader.result()
        except Refused:
            raise
        except Exception as error:
            raise Refused(refused(error, OPEN_INFERENCE)) from None
        finally:
            reader.cancel()
            talk.give_up()
            # Heard above, or of no interest any more.
            await asyncio.gather(reader, return_exceptions=True)

    return Stream(method, many_requests=True)


class _Turn:
    """One request of a stream until its last message is written."""

    __slots__ = ("cancel", "id", "in_parts", "is_done", "messages", "wants_final")

    def __init__(self) -> None:
        self.id = ""
        self.wants_final = False
        # Whether its version answers in parts, which need not wait for other requests.
        self.in_parts = False
        # What is to be written, and whom to tell when it is.
        self.messages: deque[tuple[bytes | Refusal, Callable[[], None]]] = deque()
        self.is_done = False
        self.cancel: Cancel | None = None


class _Talk:
    """One stream. Whole answers are written in the order of their requests, as Triton does: clients that send no ids count on it."""

    def __init__(self, plane: DataPlane, protocol: str, prepare: _Prepare, call: Call) -> None:
        self._plane, self._protocol, self._prepare, self._call = plane, protocol, prepare, call
        self._ends_on_error = call.metadata.get(ERROR_AS_STATUS) == "true"
        self._turns: deque[_Turn] = deque()
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._news = asyncio.Event()

    async def listen(self, requests: AsyncIterator[bytes]) -> None:
        """Start every request as it comes, while there is room."""
        try:
            await self._room.acquire()
            async for raw in requests:
                turn = _Turn()
                self._turns.append(turn)
                try:
                    self._start(turn, raw)
                except Exception as error:
                    self._refuse(turn, error)
                await self._room.acquire()
        finally:
            # It may be all there was to wait for.
            self._news.set()

    def _start(self, turn: _Turn, raw: bytes) -> None:
        request, lifted = openinference_codec.read(raw)
        turn.id = request.id
        turn.wants_final = WANTS_FINAL in request.parameters and request.parameters[WANTS_FINAL].bool_param
        call = Call(time.monotonic(), self._call.deadline, self._call.metadata)
        work = self._prepare(request, lifted, call)
        handler = work.served.manifest.handler
        turn.in_parts = handler is not None and handler.streams

        def on_part(part: Response, more: Callable[[], None]) -> None:
            if turn.is_done:
                return
            try:
                self._tell(turn, work.encode(part), more, is_final=False)
            except Exception as error:
                # What came cannot be said in this protocol, nor could the rest.
                self._refuse(turn, error)
                if turn.cancel is not None:
                    turn.cancel()

        def done(result: Response | TowlineError) -> None:
            if turn.is_done:
                return
            try:
                if isinstance(result, TowlineError):
                    raise result
                if result.outputs or not turn.in_parts:
                    self._tell(turn, work.encode(result), _nothing, is_final=True)
                elif turn.wants_final:
                    self._tell(turn, _Answer(model_name=result.name, model_version=str(result.number), id=turn.id).SerializeToString())
                self._end(turn)
            except Exception as error:
                self._refuse(turn, error)

        # A stream takes parts; what has none answers as ever.
        passes_on = {"on_part": on_part} if turn.in_parts else {}
        turn.cancel = self._plane.infer(work.served, work.request, done, protocol=self._protocol, **passes_on)

    def _tell(self, turn: _Turn, answer: bytes, written: Callable[[], None] = _nothing, *, is_final: bool = True) -> None:
        if turn.wants_final:
            answer += _FINAL if is_final else _NOT_FINAL
        turn.messages.append((delimited(2, answer), written))
        self._news.set()

    def _refuse(self, turn: _Turn, error: Exception) -> None:
        """One error and no more of this request; the stream goes on, unless its client wants otherwise."""
        refusal = refused(error, OPEN_INFERENCE)
        if self._ends_on_error:
            turn.messages.append((refusal, _nothing))
        else:
            # The id says which of them failed.
            which = {"id": clip(turn.id, MAX_ID), "parameters": _parameters(is_final=True) if turn.wants_final else {}}
            turn.messages.append((_Message(error_message=refusal.message, infer_response=which).SerializeToString(), _nothing))
        self._end(turn)

    def _end(self, turn: _Turn) -> None:
        turn.is_done = True
        self._news.set()

    def speak(self) -> Iterator[bytes]:
        """What can be written now. Raises Refused where the client wants an error to end the stream."""
        while (turn := self._next()) is not None:
            while turn.messages:
                message, written = turn.messages.popleft()
                if isinstance(message, Refusal):
                    raise Refused(message)
                yield message
                written()
            if turn.is_done:
                self._turns.remove(turn)
                # Only now, when its answer is written: a client that reads nothing is given nothing more to do.
                self._room.release()

    def _next(self) -> _Turn | None:
        """The first request, or one that is answered in parts, which has something to write or is through."""
        for index, turn in enumerate(self._turns):
            if (index == 0 or turn.in_parts) and (turn.messages or turn.is_done):
                return turn
        return None

    def has_told_all(self) -> bool:
        return not self._turns

    async def news(self) -> None:
        await self._news.wait()
        self._news.clear()

    def give_up(self) -> None:
        for turn in self._turns:
            if turn.cancel is not None:
                turn.cancel()
