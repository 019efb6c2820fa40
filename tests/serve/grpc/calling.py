"""Ask a method of ours without a socket, and write messages briefly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import grpc

from towline.serve.protocols.grpc.contract import Call, Metadata, Method, Refusal
from towline.serve.protocols.grpc.messages import MESSAGES

CODES = {code.value[0]: code for code in grpc.StatusCode}


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


class Asker:
    """The unary methods of a table, called by their full names with messages or raw bytes."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods

    def raw(self, name: str, message: bytes, left_s: float | None = None, metadata: Metadata | None = None) -> bytes:
        now = time.monotonic()
        answers: list[bytes | Refusal] = []
        self._methods[f"/{name}"](message, Call(now, None if left_s is None else now + left_s, metadata or {}), answers.append)
        (answer,) = answers
        if isinstance(answer, Refusal):
            raise Refused(CODES[answer.code], answer.message, answer.trailers)
        return answer

    def ask(self, name: str, message: Any, answer: str, left_s: float | None = None) -> Any:
        return MESSAGES[answer].FromString(self.raw(name, message.SerializeToString(), left_s))
