"""Ask a method of ours without a socket, and write messages briefly."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from towline.serve.protocols.grpc.calls import Method
from towline.serve.protocols.grpc.messages import MESSAGES


class Refused(Exception):
    """What a client would see: status, words, and our code and field."""

    def __init__(self, status: grpc.StatusCode, details: str, trailers: tuple[tuple[str, str], ...]) -> None:
        super().__init__(f"{status.name}: {details}")
        self.status, self.details = status, details
        self.trailers = dict(trailers)

    @property
    def code(self) -> str:
        return self.trailers["towline-code"]

    @property
    def field(self) -> str:
        return self.trailers.get("towline-field", "")


class Context:
    """A call's context as grpc.aio gives it to a method: how long the client waits, and how to refuse it."""

    def __init__(self, left_s: float | None = None) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float | None:
        return self._left_s

    async def abort(self, status: grpc.StatusCode, details: str, trailers: tuple[tuple[str, str], ...]) -> None:
        raise Refused(status, details, trailers)


class Asker:
    """The methods of some generic handlers, called by their full names with messages or raw bytes."""

    def __init__(self, *handlers: grpc.GenericRpcHandler) -> None:
        self._handlers = handlers

    def method(self, name: str) -> Method:
        class Details:
            method = f"/{name}"
            invocation_metadata = ()

        for handler in self._handlers:
            found = handler.service(Details())
            if found is not None:
                return found.unary_unary
        raise KeyError(name)

    def raw(self, name: str, message: bytes, left_s: float | None = None) -> bytes:
        async def call() -> bytes:
            return await self.method(name)(message, Context(left_s))

        return asyncio.run(call())

    def ask(self, name: str, message: Any, answer: str, left_s: float | None = None) -> Any:
        return MESSAGES[answer].FromString(self.raw(name, message.SerializeToString(), left_s))
