"""All that is served over gRPC as one table, whatever carries it: grpc.aio, a native server, or gRPC-Web over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from towline.serve.codecs.check import Limits
from towline.serve.contract import Control, DataPlane
from towline.serve.protocols.grpc import openinference, reflection, repository, tfserving
from towline.serve.protocols.grpc.calls import refused
from towline.serve.protocols.grpc.contract import Call, Cancel, Check, Method, Methods, Refused, Reply, Stream
from towline.serve.protocols.grpc.health import Health
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import TF_SERVING


class Service:
    """`methods` is the table. `changed` is to be called as often as a model's state changes; `drain` once, when the server begins to end.

    `check`, where there is one, sees every call before its message is read: there is no method beside it.
    """

    def __init__(self, plane: DataPlane, limits: Limits, check: Check | None = None, control: Control | None = None) -> None:
        health = Health(plane, MESSAGES.services)
        self.changed, self.drain = health.changed, health.drain
        unary = {**openinference.methods(plane, limits), **tfserving.methods(plane, limits, control), **health.methods()}
        if control is not None:
            unary |= repository.methods(plane, control)
        streams = {**openinference.streams(plane, limits), **health.streams(), **reflection.streams()}
        if check is not None:
            unary = {path: _checked(path, method, check) for path, method in unary.items()}
            streams = {path: _checked_stream(path, stream, check) for path, stream in streams.items()}
        self.methods = Methods(unary, streams)


def _checked(path: str, method: Method, check: Check) -> Method:
    def checked(raw: bytes, call: Call, reply: Reply) -> Cancel | None:
        try:
            check(path, call.metadata)
        except Exception as error:
            reply(refused(error, TF_SERVING))
            return None
        return method(raw, call, reply)

    return checked


def _checked_stream(path: str, stream: Stream, check: Check) -> Stream:
    async def checked(requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
        try:
            check(path, call.metadata)
        except Exception as error:
            raise Refused(refused(error, TF_SERVING)) from None
        async with contextlib.aclosing(stream.method(requests, call)) as answers:
            async for answer in answers:
                yield answer

    return Stream(checked, stream.many_requests)
