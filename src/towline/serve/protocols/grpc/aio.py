"""The table of methods on grpc.aio: every method `bytes -> bytes`, with its deadline, metadata, refusal and end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, NoReturn

import grpc

from towline.serve.protocols.grpc.contract import Call, Method, Methods, Refusal, Refused, Stream, echoed, joined

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def handlers(methods: Methods) -> tuple[grpc.GenericRpcHandler, ...]:
    """One generic handler a service. What is missing is answered UNIMPLEMENTED by gRPC itself."""
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    found = {path: grpc.unary_unary_rpc_method_handler(_unary(method)) for path, method in methods.unary.items()}
    found |= {path: _stream_handler(stream) for path, stream in methods.streams.items()}
    for path, handler in found.items():
        _, service, name = path.split("/")
        services.setdefault(service, {})[name] = handler
    return tuple(grpc.method_handlers_generic_handler(service, handlers) for service, handlers in services.items())


def _unary(method: Method) -> Any:
    async def call(raw: bytes, context: Any) -> bytes:
        answer: asyncio.Future[bytes | Refusal] = asyncio.get_running_loop().create_future()

        def reply(result: bytes | Refusal) -> None:
            if not answer.done():
                answer.set_result(result)

        seen = _call_of(context)
        echo = echoed(seen.metadata)
        cancel = method(raw, seen, reply)
        try:
            result = await answer
        except asyncio.CancelledError:
            if cancel is not None:
                cancel()
            raise
        if isinstance(result, Refusal):
            await _refuse(context, result, echo)
        if echo:
            context.set_trailing_metadata(echo)
        return result

    return call


def _stream_handler(stream: Stream) -> grpc.RpcMethodHandler:
    method = stream.method

    async def talk(requests: AsyncIterator[bytes], context: Any) -> AsyncGenerator[bytes, None]:
        call = _call_of(context)
        echo = echoed(call.metadata)
        if echo:
            context.set_trailing_metadata(echo)
        try:
            # Closed and not left to the garbage: a call that ends while an answer is written gives its work up then.
            async with contextlib.aclosing(method(requests, call)) as answers:
                async for answer in answers:
                    yield answer
        except Refused as error:
            await _refuse(context, error.refusal, echo)

    async def watch(raw: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(talk(_one(raw), context)) as answers:
            async for answer in answers:
                yield answer

    if stream.many_requests:
        return grpc.stream_stream_rpc_method_handler(talk)
    return grpc.unary_stream_rpc_method_handler(watch)


async def _one(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


def _call_of(context: Any) -> Call:
    now = time.monotonic()
    left_s = context.time_remaining()
    return Call(now, None if left_s is None else now + left_s, joined(context.invocation_metadata() or ()), context.peer)


async def _refuse(context: Any, refusal: Refusal, echo: tuple[tuple[str, str], ...]) -> NoReturn:
    await context.abort(_CODES[refusal.code], refusal.message, (*refusal.trailers, *echo))
    raise AssertionError("abort raises")
