"""How a method over gRPC reads its message, answers or refuses, and stops when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from towline.core.errors import InvalidRequest, TowlineError
from towline.core.inference import Request, Response
from towline.serve.contract import DataPlane, Served
from towline.serve.protocols.grpc.contract import Call, Cancel, Method, Refusal, Reply
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import Statuses, refusal_of

log = logging.getLogger("towline.serve")


@dataclass(frozen=True)
class Work:
    """A decoded request, who answers it, and how its answer is written. `encode` reads the arrays and keeps none."""

    served: Served
    request: Request
    encode: Callable[[Response], bytes]


def answering(request: str, statuses: Statuses, handle: Callable[[Any], Any]) -> Method:
    """A method that answers at once: message in, message out. Refuses as `handle` raises, in the protocol's own status."""
    kind = MESSAGES[request]

    def method(raw: bytes, call: Call, reply: Reply) -> None:
        answer: bytes | Refusal
        try:
            answer = handle(read(kind, raw)).SerializeToString()
        except Exception as error:
            answer = refused(error, statuses)
        reply(answer)

    return method


def changing(request: str, statuses: Statuses, handle: Callable[[Any, Call], Coroutine[Any, Any, Any]]) -> Method:
    """A method that waits for somebody else. It no longer waits once the client has gone."""
    kind = MESSAGES[request]
    tasks: set[asyncio.Task[None]] = set()

    async def run(raw: bytes, call: Call, reply: Reply) -> None:
        answer: bytes | Refusal
        try:
            answer = (await handle(read(kind, raw), call)).SerializeToString()
        except Exception as error:
            answer = refused(error, statuses)
        reply(answer)

    def method(raw: bytes, call: Call, reply: Reply) -> Cancel:
        task = asyncio.ensure_future(run(raw, call, reply))
        # The loop itself remembers its tasks only weakly.
        tasks.add(task)
        task.add_done_callback(tasks.discard)

        def cancel() -> None:
            task.cancel()

        return cancel

    return method


def inferring(statuses: Statuses, plane: DataPlane, protocol: str, prepare: Callable[[bytes, Call], Work]) -> Method:
    """A method that runs a model. Its work is given up when the client cancels, leaves or stops waiting."""

    def method(raw: bytes, call: Call, reply: Reply) -> Cancel | None:
        # No await between finding a version and handing it the request: its slot cannot close in between.
        try:
            return run(plane, prepare(raw, call), protocol, statuses, reply)
        except Exception as error:
            reply(refused(error, statuses))
            return None

    return method


def run(plane: DataPlane, work: Work, protocol: str, statuses: Statuses, reply: Reply) -> Cancel:
    """Run one decoded request; `reply` hears its encoded answer or its refusal. Returns what gives it up."""

    def done(result: Response | TowlineError) -> None:
        answer: bytes | Refusal
        try:
            if isinstance(result, TowlineError):
                raise result
            # Here and not later: the arrays are only lent until this returns.
            answer = work.encode(result)
        except Exception as error:
            answer = refused(error, statuses)
        reply(answer)

    return plane.infer(work.served, work.request, done, protocol=protocol)


def read(kind: Any, raw: bytes) -> Any:
    """The message in `raw`. Text that is not UTF-8 makes it no such message."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidRequest(
            f"The message is no {kind.DESCRIPTOR.full_name}: it is cut off, malformed, or holds text that is not UTF-8.", code="BAD_MESSAGE"
        ) from None


def refused(error: Exception, statuses: Statuses) -> Refusal:
    """An error as the client may see it. What nobody foresaw goes to the log and is told without its words, which may hold secrets."""
    if not isinstance(error, TowlineError):
        log.error("a gRPC method failed", exc_info=error)
        error = TowlineError("The server failed while answering this; its log says why.")
    return refusal_of(error, statuses)
