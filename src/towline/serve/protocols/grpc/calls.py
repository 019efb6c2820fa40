"""How a method over gRPC reads its message, answers or refuses, and stops when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from towline.core.errors import InvalidRequest, Kind, TowlineError
from towline.core.inference import Request, Response
from towline.serve.contract import DataPlane, Served
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import details_of, status_of, trailers_of

log = logging.getLogger("towline.serve")

Statuses = Mapping[Kind, grpc.StatusCode]
# grpc.aio's method: the message's bytes and the call's context -> the answer's bytes.
Method = Callable[[bytes, Any], Awaitable[bytes]]


@dataclass(frozen=True)
class Call:
    """When a call's message had arrived and when its client stops waiting, None for never; both on the monotonic clock."""

    received_s: float
    deadline: float | None


@dataclass(frozen=True)
class Work:
    """A decoded request, who answers it, and how its answer is written. `encode` reads the arrays and keeps none."""

    served: Served
    request: Request
    encode: Callable[[Response], bytes]


def answering(request: str, statuses: Statuses, handle: Callable[[Any], Any]) -> Method:
    """A method that answers at once: message in, message out. Raises as `handle` does, in the protocol's own status."""
    kind = MESSAGES[request]

    async def method(raw: bytes, context: Any) -> bytes:
        try:
            answer: bytes = handle(read(kind, raw)).SerializeToString()
            return answer
        except Exception as error:
            refusal = known(error)
        return await refuse(context, refusal, statuses)

    return method


def inferring(request: str, statuses: Statuses, plane: DataPlane, protocol: str, prepare: Callable[[Any, Call], Work]) -> Method:
    """A method that runs a model. Its work is given up when the client cancels, leaves or stops waiting."""
    kind = MESSAGES[request]

    async def method(raw: bytes, context: Any) -> bytes:
        try:
            # No await between finding a version and handing it the request: its slot cannot close in between.
            work = prepare(read(kind, raw), _call_of(context))
            return await _run(plane, work, protocol)
        except Exception as error:
            refusal = known(error)
        return await refuse(context, refusal, statuses)

    return method


async def _run(plane: DataPlane, work: Work, protocol: str) -> bytes:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def done(result: Response | TowlineError) -> None:
        if answer.done():
            return
        if isinstance(result, TowlineError):
            answer.set_exception(result)
            return
        try:
            # Here and not later: the arrays are only lent until this returns.
            answer.set_result(work.encode(result))
        except Exception as error:
            answer.set_exception(error)

    cancel = plane.infer(work.served, work.request, done, protocol=protocol)
    try:
        return await answer
    except asyncio.CancelledError:
        cancel()
        raise


def _call_of(context: Any) -> Call:
    now = time.monotonic()
    left_s = context.time_remaining()
    return Call(now, None if left_s is None else now + left_s)


def read(kind: Any, raw: bytes) -> Any:
    """The message in `raw`. Text that is not UTF-8 makes it no such message."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidRequest(
            f"The message is no {kind.DESCRIPTOR.full_name}: it is cut off, malformed, or holds text that is not UTF-8.", code="BAD_MESSAGE"
        ) from None


def known(error: Exception) -> TowlineError:
    """An error the client may see. What nobody foresaw goes to the log and is told without its words, which may hold secrets."""
    if isinstance(error, TowlineError):
        return error
    log.error("a gRPC method failed", exc_info=error)
    return TowlineError("The server failed while answering this; its log says why.")


async def refuse(context: Any, error: TowlineError, statuses: Statuses) -> NoReturn:
    """End a call with the error's status, words, code and field."""
    status = status_of(error, statuses)
    await context.abort(status, details_of(error), trailers_of(error, status))
    raise AssertionError("abort raises")


def service(name: str, methods: Mapping[str, Method]) -> grpc.GenericRpcHandler:
    """A service of methods `bytes -> bytes`. Those that are missing are answered UNIMPLEMENTED by gRPC itself."""
    handlers = {method: grpc.unary_unary_rpc_method_handler(call) for method, call in methods.items()}
    return grpc.method_handlers_generic_handler(name, handlers)
