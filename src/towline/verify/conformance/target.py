"""The server under test: asked over HTTP and gRPC, remembering what was sent last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Protocol

from towline.core.errors import Unreachable

TIMEOUT_S = 20.0
# The suite's own models: y = x / 2 + 2 for x FP32 [N, 2], and s = t for t BYTES [N].
HALVES = "halves"
ECHO = "echo"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None when it is none. NaN and Infinity are taken, as TF Serving writes them."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Called:
    """How one gRPC call ended: the messages that came, and the status' name (OK, NOT_FOUND, …) and words."""

    messages: Sequence[Any]
    status: str
    words: str

    @property
    def message(self) -> Any:
        return self.messages[0] if self.messages else None


class Messages(Protocol):
    """Protobuf classes by their full names."""

    def __getitem__(self, name: str, /) -> Any: ...


class Target:
    """`grpc_address` is HOST:PORT, empty where gRPC is not to be asked. `key` is sent with every request."""

    def __init__(self, host: str, port: int, grpc_address: str, messages: Messages, *, key: str | None = None) -> None:
        self.host, self.port, self.grpc_address = host, port, grpc_address
        self.messages = messages
        self.sent = ""
        self._key = key

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """On a connection of its own. Raises Unreachable."""
        self.sent = f"{method} {path} {(body or b'')[:200].decode('latin-1')}".strip()
        given = {**({"authorization": f"Bearer {self._key}"} if self._key else {}), **(headers or {})}
        connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{self.host}:{self.port} does not answer {method} {path}: {type(error).__name__}.") from None
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """A JSON body, told to be one: some servers take any other for bytes."""
        return self.ask("POST", path, json.dumps(document).encode(), {"content-type": "application/json", **(headers or {})})

    def call(self, path: str, request: str, answer: str, *fields: Mapping[str, Any]) -> Called:
        """Call a gRPC method with one message for each of `fields`; a stream of requests when there are several or none."""
        import grpc

        self.sent = f"{path} {', '.join(map(str, fields))}"
        metadata = [("authorization", f"Bearer {self._key}")] if self._key else None
        requests = [self.messages[request](**one) for one in fields]
        with grpc.insecure_channel(self.grpc_address) as channel:
            kind = self.messages[answer].FromString
            try:
                if len(requests) == 1:
                    method = channel.unary_unary(path, _serialized, kind)
                    return Called([method(requests[0], timeout=TIMEOUT_S, metadata=metadata)], "OK", "")
                stream = channel.stream_stream(path, _serialized, kind)
                return Called(list(stream(iter(requests), timeout=TIMEOUT_S, metadata=metadata)), "OK", "")
            except grpc.RpcError as error:
                return Called([], error.code().name, error.details() or "")


def _serialized(message: Any) -> bytes:
    raw: bytes = message.SerializeToString()
    return raw
