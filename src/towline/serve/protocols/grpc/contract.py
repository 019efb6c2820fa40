"""What a transport of gRPC needs from a method, and what a method may expect of it. Imports neither grpc nor protobuf."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from urllib.parse import unquote


class Code(IntEnum):
    """gRPC's status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


Metadata = Mapping[str, str | bytes]


def joined(pairs: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """Metadata as it arrived, one value a name: what came twice is joined by a comma, as gRPC allows."""
    found: dict[str, str | bytes] = {}
    for name, value in pairs:
        before = found.get(name)
        if isinstance(before, str) and isinstance(value, str):
            value = f"{before},{value}"
        elif isinstance(before, bytes) and isinstance(value, bytes):
            value = before + b"," + value
        found[name] = value
    return found


# What an answer repeats of its request: an id as HTTP takes it, and a W3C trace context.
_ECHOED = {
    "x-request-id": re.compile(r"[A-Za-z0-9._:/+=-]{1,128}"),
    "traceparent": re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"),
}


def echoed(metadata: Metadata) -> tuple[tuple[str, str], ...]:
    """The trailing metadata by which an answer, or a refusal, is found again: nothing for a request that carries nothing valid."""
    found = ((name, metadata.get(name), pattern) for name, pattern in _ECHOED.items())
    return tuple((name, value) for name, value, pattern in found if isinstance(value, str) and pattern.fullmatch(value))


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as its transport saw it arrive.

    `received_s` is when its (first) message was there, `deadline` when its client stops waiting, None for never; both on the monotonic
    clock. `metadata` is `joined`: lower-case names; a name ending in `-bin` has bytes, decoded. The transport bounds its size before a
    Call is made.
    """

    received_s: float
    deadline: float | None = None
    metadata: Metadata = field(default_factory=dict)
    # Who calls, as gRPC writes it (`ipv4:127.0.0.1:4711`), or what tells it when it is asked for.
    peer: str | Callable[[], str] = ""

    def actor(self, protocol: str) -> str:
        """Who an event says it was: the protocol and the address without its port."""
        peer = self.peer if isinstance(self.peer, str) else self.peer()
        host = peer.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0]
        return f"{protocol} {unquote(host)}".rstrip()


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call ends that is not answered. `message` is plain text of at most 1,200 characters, not yet percent-encoded."""

    code: Code
    message: str
    trailers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A stream ends with this refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


Reply = Callable[[bytes | Refusal], None]
Cancel = Callable[[], None]
# Called on the event loop with one whole, uncompressed message within the limit. Calls `reply` once, on the loop, perhaps before it
# returns; what it returns gives the work up (the client has gone), after which `reply` is not called any more. Raises nothing.
Method = Callable[[bytes, Call, Reply], "Cancel | None"]
# Messages in, messages out. It takes the next message when it can use it and is asked for the next answer when that can be written:
# both sides wait for each other. Closed early (`aclose`, or its task cancelled), it gives its work up. Raises Refused, nothing else.
StreamMethod = Callable[[AsyncIterator[bytes], Call], AsyncGenerator[bytes, None]]


@dataclass(frozen=True)
class Stream:
    """A method whose answer is a stream, and whose request is one too where `many_requests`."""

    method: StreamMethod
    many_requests: bool


@dataclass(frozen=True)
class Methods:
    """All that is served, by the path a client calls: `/package.Service/Method`."""

    unary: Mapping[str, Method]
    streams: Mapping[str, Stream]


# Says whether a call may pass, by its path and its metadata, before its message is read. Raises TowlineError.
Check = Callable[[str, Metadata], None]
