"""What a protocol needs from the data plane, and what any HTTP transport needs from a protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.core.manifest import Manifest, Signature


class Served(Protocol):
    """One version that is answering (a ready slot), as protocols see it. Lives as long as its slot: cache codecs on it."""

    name: str
    number: int
    digest: str
    manifest: Manifest
    # The file named by manifest.labels, one label per line; empty when there is none.
    labels: tuple[str, ...]
    # Scratch for protocols, by a key of their own: decoders built once per slot.
    codecs: dict[Any, Any]

    def signature(self, name: str = "") -> Signature:
        """The named signature, or the default one. Raises InvalidRequest."""
        ...


@dataclass(frozen=True)
class VersionStatus:
    """State of one version of a model: TF Serving's words START, LOADING, AVAILABLE, UNLOADING, END."""

    number: int
    state: str
    error: str = ""


Done = Callable[[Response | TowlineError], None]
# One part of an answer, whose arrays live until the call returns, and what to call, once, when there is room for the next. Until then the
# model waits. What is called late, or after the request was cancelled, is ignored.
OnPart = Callable[[Response, Callable[[], None]], None]


class DataPlane(Protocol):
    """Where every protocol enters. `find` then `infer` without an await in between: the slot cannot close meanwhile."""

    def find(self, name: str, *, number: int | None = None, label: str = "") -> Served:
        """The ready version for a name (the deployment's default), a number or a label. Raises NotFound or Unavailable."""
        ...

    def only(self) -> Served:
        """The one model being served, for paths that name none. Raises InvalidRequest that lists the names when there are several."""
        ...

    def infer(self, served: Served, request: Request, done: Done, *, protocol: str, on_part: OnPart | None = None) -> Callable[[], None]:
        """Admit, queue, run; `done` is called once, on the event loop, perhaps before this returns. Its arrays live until it returns.

        Returns a function that cancels: the client has gone, the work need not be done. Errors reach `done`; nothing is raised.

        With `on_part` the answer of a version that streams comes in parts, on the event loop, and `done` hears of their end: a Response
        without outputs, or an error, also in the middle. Without it, and of other versions, `done` hears the whole answer.
        """
        ...

    def status(self, name: str) -> list[VersionStatus]:
        """All versions of a model that the deployment wants or had, newest first. Raises NotFound."""
        ...

    def names(self) -> tuple[str, ...]: ...

    def is_ready(self) -> bool:
        """Every wanted model has a ready version and the server is not draining."""
        ...


class HttpRequest(msgspec.Struct, gc=False):
    """A complete request within the transport's limits. `headers` are (lower-case name, value) as received.

    `path` is the raw target up to `?`, not yet percent-decoded. `body` is as sent: content-encoding is the protocol's to undo.
    """

    method: str = ""
    path: str = ""
    query: str = ""
    headers: list[tuple[bytes, bytes]] = []
    body: bytes = b""
    # On the monotonic clock, when the request began to arrive.
    received_s: float = 0.0
    # The client's x-request-id, or the one the transport made; the answer carries it.
    id: bytes = b""
    # It is known that no header tells how to decode the body, or how long the client waits.
    is_plain: bool = False

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None


class HttpStream(Protocol):
    """The open end of an answer whose head is out. After `end`, and once the client has gone, it takes everything and sends nothing."""

    def write(self, raw: bytes, more: Callable[[], None]) -> None:
        """Send `raw`. `more` is called once, perhaps before this returns, when there is room for what follows; never if the client goes."""
        ...

    def end(self) -> None:
        """The answer is complete."""
        ...


class HttpResponse(msgspec.Struct, gc=False):
    """`body` is joined by the transport, which adds content-length, x-request-id and traceparent.

    With `begin` the answer is of unknown length: the transport sends the head and, before `reply` returns, gives `begin` the open end.
    """

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    begin: Callable[[HttpStream], None] | None = None


Reply = Callable[[HttpResponse], None]
# Called once the whole request is there. Must call `reply` exactly once, now or later; returns what cancels the work, or None.
Handler = Callable[[HttpRequest, Mapping[str, str], Reply], "Callable[[], None] | None"]


@dataclass(frozen=True)
class Route:
    """One entry of a protocol's table. `pattern` is a regular expression for the whole raw path; its named groups,
    percent-decoded once, are the mapping that `handler` receives. `infers` routes are answered on the fast path.
    `is_open` routes are answered without a key."""

    method: str
    pattern: str
    handler: Handler
    infers: bool = False
    ignore_case: bool = False
    is_open: bool = False
