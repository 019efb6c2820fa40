"""What a protocol needs from the data plane, and what any HTTP transport needs from a protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from towline.core.errors import InvalidRequest, TowlineError
from towline.core.inference import Request, Response
from towline.core.manifest import Manifest, Signature
from towline.core.refs import clip


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


def signature_named(manifest: Manifest, name: str) -> Signature:
    """As Served.signature."""
    found = manifest.signatures.get(name) if name else manifest.signature
    if found is None:
        known = ", ".join(sorted(manifest.signatures))
        raise InvalidRequest(
            f"Signature '{clip(name)}' is not in this version; it has {known}.", code="UNKNOWN_SIGNATURE", field="signature_name"
        )
    return found


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


@dataclass(frozen=True)
class IndexEntry:
    """One line of the repository's index: `version` is None for a model that is stored and not served. `state` is Triton's word."""

    name: str
    version: int | None = None
    state: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Loaded:
    """What a load came to: the versions that answer now, and what of the client's configuration has no meaning here."""

    name: str
    numbers: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Count:
    """How often, and how long in all, in nanoseconds."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True)
class VersionStatistics:
    """What one version did since it was loaded. `rows` counts what batches held, `executions` the batches that gave an answer.

    Of each answered request: `queue` is its wait, `compute` the engine's time for its batch, `rest` everything else (to the worker and
    back). `sizes` maps the rows of a batch to how often such ran and the engine's time. `last_ms` is when, in milliseconds since 1970.
    """

    name: str
    number: int
    last_ms: int
    rows: int
    executions: int
    success: Count
    fail: Count
    queue: Count
    compute: Count
    rest: Count
    sizes: Mapping[int, Count]
    memory_bytes: int


@dataclass(frozen=True)
class WishedModel:
    """One model of a TF Serving configuration. `policy` is latest, all or specific, with a count or numbers."""

    name: str
    base_path: str
    policy: str = "latest"
    count: int = 1
    numbers: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)


class Control(Protocol):
    """How clients look at what a server serves, and change it where its owner allows that (the setting `model_control`).

    Each change is asked of the controller, the store's only writer, and recorded under `actor` (protocol and peer). It answers when the
    versions it asks for are ready, or refused with the reason; what answered before goes on meanwhile. Raises TowlineError: DENIED where
    not allowed, UNAVAILABLE with a time to wait while the controller is away, EXHAUSTED when too many wait, DEADLINE after the time a
    load may take. Asking the same twice is harmless.
    """

    def repository_index(self) -> list[IndexEntry]: ...

    def statistics(self, name: str = "", number: int | None = None) -> list[VersionStatistics]:
        """Of the versions that are loaded. Raises NotFound, Unavailable."""
        ...

    def max_batch(self, served: Served) -> int:
        """Rows that one batch of it may have."""
        ...

    async def load(self, name: str, asked: Asked, *, actor: str) -> Loaded: ...

    async def unload(self, name: str, *, actor: str) -> None:
        """Of a model that is stored and not served: nothing to do. Raises NotFound."""
        ...

    async def reload(self, models: Sequence[WishedModel], *, actor: str) -> None:
        """Serve these models and no others."""
        ...


@dataclass(frozen=True)
class Asked:
    """What a load asks for, beside the name: at most one of `number` and `alias`; a model configuration; files by `N/name`.

    `base64` says that the files are so encoded, which the controller undoes.
    """

    number: int | None = None
    alias: str = ""
    config: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    base64: bool = False


class HttpRequest(msgspec.Struct, gc=False):
    """A complete request within the transport's limits. `headers` are (lower-case name, value) as received.

    `path` is the raw target up to `?`, not yet percent-decoded. `body` is as sent: content-encoding is the protocol's to undo.
    """

    method: str = ""
    path: str = ""
    query: str = ""
    headers: list[tuple[bytes, bytes]] = []
    # Of a route that `takes_buffer` it may be a memoryview.
    body: bytes = b""
    # On the monotonic clock, when the request began to arrive.
    received_s: float = 0.0
    # The client's x-request-id, or the one the transport made; the answer carries it.
    id: bytes = b""
    # It is known that no header tells how to decode the body, or how long the client waits.
    is_plain: bool = False
    # Host and port of who sent it, where the transport knows.
    peer: tuple[str, int] | None = None

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
    # What follows `body`, sent as it is: large tensors are not copied once more to stand behind it.
    tail: tuple[bytes, ...] = ()
    # The code of an error that no version has counted; the transport counts it.
    refusal: str = ""

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        return len(self.body) + sum(map(len, self.tail))


class JsonAnswer(HttpResponse, gc=False):
    """`JsonAnswer(200, body)`, with nothing else to say: what nearly every answer is, told apart with one look at its type."""


Reply = Callable[[HttpResponse], None]
# Called once the whole request is there. Must call `reply` exactly once, now or later; returns what cancels the work, or None.
Handler = Callable[[HttpRequest, Mapping[str, str], Reply], "Callable[[], None] | None"]
JsonSize = Callable[[HttpRequest, Mapping[str, str], int], int]


def whole_body(request: HttpRequest, names: Mapping[str, str], size: int) -> int:
    """A JsonSize."""
    return size


@dataclass(frozen=True)
class Route:
    """One entry of a protocol's table. `pattern` is a regular expression for the whole raw path; its named groups,
    percent-decoded once, are the mapping that `handler` receives. `json_size` tells, of a request to a model with a body of so many bytes,
    how many of them are JSON: many are read by another process (serve/decoder).
    `is_open` routes are answered without a key. A route that `takes_buffer` is given large bodies as memoryviews, not as bytes."""

    method: str
    pattern: str
    handler: Handler
    json_size: JsonSize | None = None
    ignore_case: bool = False
    takes_buffer: bool = False
    is_open: bool = False
