"""`ModelStreamInfer`, as Triton speaks it: many requests on one call; an error of one of them is a message and not the end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

from towline.core.refs import clip
from towline.serve.contract import DataPlane
from towline.serve.protocols.grpc.calls import Work, read, refused, run
from towline.serve.protocols.grpc.contract import Call, Cancel, Refusal, Refused, Stream
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import OPEN_INFERENCE
from towline.serve.protocols.grpc.wire import delimited
from towline.serve.protocols.openinference_request import MAX_ID

# Requests of one stream that are running or whose answers wait to be written; with so many, no further one is read.
MAX_IN_FLIGHT = 64
# A client that sends this wants the first error to be the stream's status.
ERROR_AS_STATUS = "triton_grpc_error"
WANTS_FINAL = "triton_enable_empty_final_response"
_Prepare = Callable[[Any, Call], Work]
_Request = MESSAGES["inference.ModelInferRequest"]
_Answer = MESSAGES["inference.ModelInferResponse"]
_Message = MESSAGES["inference.ModelStreamInferResponse"]
_FINAL = _Answer(parameters={"triton_final_response": {"bool_param": True}}).SerializeToString()


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
    """One request of a stream until its last answer is written."""

    __slots__ = ("cancel", "id", "is_done", "messages", "wants_final")

    def __init__(self) -> None:
        self.id = ""
        self.wants_final = False
        self.messages: deque[bytes | Refusal] = deque()
        self.is_done = False
        self.cancel: Cancel | None = None


class _Talk:
    """One stream. Answers are written in the order of their requests, as Triton does: clients that send no ids count on it."""

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
                self._start(turn, raw)
                await self._room.acquire()
        finally:
            # It may be all there was to wait for.
            self._news.set()

    def _start(self, turn: _Turn, raw: bytes) -> None:
        def reply(answer: bytes | Refusal) -> None:
            turn.is_done = True
            turn.messages.append(self._message(turn, answer))
            self._news.set()

        try:
            request = read(_Request, raw)
            turn.id = request.id
            turn.wants_final = request.parameters[WANTS_FINAL].bool_param if WANTS_FINAL in request.parameters else False
            call = Call(time.monotonic(), self._call.deadline, self._call.metadata)
            turn.cancel = run(self._plane, self._prepare(request, call), self._protocol, OPEN_INFERENCE, reply)
        except Exception as error:
            reply(refused(error, OPEN_INFERENCE))

    def _message(self, turn: _Turn, answer: bytes | Refusal) -> bytes | Refusal:
        if isinstance(answer, bytes):
            return delimited(2, answer + _FINAL if turn.wants_final else answer)
        if self._ends_on_error:
            return answer
        # The id says which of them failed.
        final = {"triton_final_response": {"bool_param": True}} if turn.wants_final else {}
        which = {"id": clip(turn.id, MAX_ID), "parameters": final}
        told: bytes = _Message(error_message=answer.message, infer_response=which).SerializeToString()
        return told

    def speak(self) -> Iterator[bytes]:
        """What can be written now. Raises Refused where the client wants an error to end the stream."""
        while self._turns and self._turns[0].is_done:
            turn = self._turns[0]
            while turn.messages:
                message = turn.messages.popleft()
                if isinstance(message, Refusal):
                    raise Refused(message)
                yield message
            self._turns.popleft()
            # Only now, when its answer is written: a client that reads nothing is given nothing more to do.
            self._room.release()

    def has_told_all(self) -> bool:
        return not self._turns

    async def news(self) -> None:
        await self._news.wait()
        self._news.clear()

    def give_up(self) -> None:
        for turn in self._turns:
            if turn.cancel is not None and not turn.is_done:
                turn.cancel()
