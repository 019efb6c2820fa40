"""GraphQL over HTTP: which requests are well-formed, and with which status they are answered.

Source: the GraphQL-over-HTTP specification (graphql.github.io/graphql-over-http), stage 2 draft. Under `application/json` a request that
could be read is answered 200, whatever became of it; under `application/graphql-response+json` the status tells.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from towline.core.errors import InvalidRequest, Kind, MissingExtra, TowlineError
from towline.serve.codecs import json
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpRequest, HttpResponse, Reply, Route
from towline.serve.protocols import incoming
from towline.serve.protocols.errors import OWN, allowing, message_of, wrong_method
from towline.serve.protocols.graphql.contract import Catalogue, FiguresOf

if TYPE_CHECKING:
    from towline.serve.protocols.graphql.execution import Answered, Asked, GraphQL

MAX_BODY_BYTES = 32 << 10
_JSON, _GRAPHQL = b"application/json", b"application/graphql-response+json"
_PATH = "/graphql"


class _Body(msgspec.Struct):
    query: str
    variables: dict[str, Any] | None = None
    operation: str | None = msgspec.field(default=None, name="operationName")
    extensions: dict[str, Any] | None = None


def routes(plane: Catalogue, limits: Limits, figures: FiguresOf) -> tuple[Route, ...]:
    api = _Api(plane, limits, figures)
    return Route("POST", _PATH, api.post), Route("GET", _PATH, api.get), Route("*", _PATH, _only_get_and_post)


def _only_get_and_post(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
    reply(allowing(_refusal(wrong_method(request.method, ("GET", "POST")), _JSON), ("GET", "POST")))


class _Api:
    def __init__(self, plane: Catalogue, limits: Limits, figures: FiguresOf) -> None:
        self._made_of = plane, limits, figures
        self._limits = Limits(MAX_BODY_BYTES)
        self._graphql: GraphQL | None = None
        # Kept, or the loop might drop a task that nobody else holds.
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        return self._begin(request, reply, _posted, may_change=True)

    def get(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        return self._begin(request, reply, _queried, may_change=False)

    def _begin(
        self, request: HttpRequest, reply: Reply, read: Callable[[HttpRequest, bytes], _Body], *, may_change: bool
    ) -> Callable[[], None] | None:
        media = _JSON
        try:
            media = _answer_media(request.header(b"accept"))
            if len(request.body) > MAX_BODY_BYTES:
                raise _too_large()
            raw, deadline = incoming.read(request, self._limits)
            body = read(request, raw)
        except TowlineError as error:
            reply(_refusal(error, media))
            return None

        async def work() -> None:
            reply(await self._answered(body, request.received_s, deadline, media, may_change=may_change))

        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return lambda: _give_up(task)

    async def _answered(self, body: _Body, received_s: float, deadline: float | None, media: bytes, *, may_change: bool) -> HttpResponse:
        try:
            # In a thread: its import takes a tenth of a second, and others are being answered.
            execution = await asyncio.to_thread(_library)
        except MissingExtra as error:
            return _refusal(error, media)
        if self._graphql is None:
            self._graphql = execution.GraphQL(*self._made_of)
        asked: Asked = execution.Asked(body.query, body.operation, body.variables, received_s, deadline)
        try:
            answered: Answered = await self._graphql.answer(asked, may_change=may_change)
        except execution.WrongVerb:
            wrong = InvalidRequest("A mutation must come by POST.", code="WRONG_METHOD", kind=Kind.WRONG_METHOD)
            return allowing(_refusal(wrong, media), ("POST",))
        status = 200 if answered.began or media == _JSON else 400
        return HttpResponse(status, json.dumps(answered.body), media + b"; charset=utf-8")


def _give_up(task: asyncio.Task[None]) -> None:
    task.cancel()


def _library() -> Any:
    try:
        return importlib.import_module("towline.serve.protocols.graphql.execution")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("graphql"):
            raise
        raise MissingExtra("GraphQL is not installed on this server.", hint="Its owner can: pip install 'towline[graphql]'") from None


def _answer_media(accept: bytes | None) -> bytes:
    """The form of the answer. Who names none of ours, nor anything, is refused with 406's meaning."""
    if accept is None or not accept.strip():
        return _JSON
    named = [one.split(b";")[0].strip().lower() for one in accept.split(b",")]
    for one in named:
        if one == _GRAPHQL:
            return _GRAPHQL
        if one in (_JSON, b"*/*", b"application/*"):
            return _JSON
    raise InvalidRequest("The answer can be application/graphql-response+json or application/json.", code="NOT_ACCEPTABLE", field="accept")


def _posted(request: HttpRequest, raw: bytes) -> _Body:
    media, _, parameters = (request.header(b"content-type") or b"").partition(b";")
    charset = parameters.replace(b" ", b"").replace(b'"', b"").lower()
    if media.strip().lower() != _JSON or charset not in (b"", b"charset=utf-8"):
        # A form is what any page may send anywhere: it never changes or asks anything here.
        raise InvalidRequest(
            "The body must be application/json in UTF-8.", code="UNSUPPORTED_MEDIA_TYPE", kind=Kind.UNSUPPORTED_MEDIA, field="content-type"
        )
    if len(raw) > MAX_BODY_BYTES:
        raise _too_large()
    return _decoded(raw)


def _queried(request: HttpRequest, raw: bytes) -> _Body:
    fields = parse_qsl(request.query, keep_blank_values=True, max_num_fields=16)
    given = dict(fields)
    if len(given) != len(fields):
        raise InvalidRequest("A parameter is given twice.", code="DUPLICATE_KEY", field="query")
    document: dict[str, Any] = {name: value for name, value in given.items() if name in ("query", "operationName")}
    for name in ("variables", "extensions"):
        if given.get(name):
            document[name] = msgspec.Raw(given[name].encode())
    try:
        return _decoded(msgspec.json.encode(document))
    except (msgspec.MsgspecError, UnicodeEncodeError):
        raise InvalidRequest("The parameters are not readable.", code="BAD_JSON", field="variables") from None


def _decoded(raw: bytes) -> _Body:
    try:
        return msgspec.json.decode(raw, type=_Body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        words = str(error).split(" - at ")[0][:160] if isinstance(error, msgspec.DecodeError) else "it cannot be read"
        field = str(error).partition("$.")[2].strip("`")[:64]
        raise InvalidRequest(f"The request is not well-formed: {words}.", code="BAD_REQUEST", field=field) from None


def _too_large() -> InvalidRequest:
    return InvalidRequest(f"A GraphQL request may have {MAX_BODY_BYTES} bytes.", code="BODY_TOO_LARGE", kind=Kind.TOO_LARGE)


def _refusal(error: TowlineError, media: bytes) -> HttpResponse:
    body = {
        "errors": [{"message": message_of(error), "extensions": {"code": error.code, **({"field": error.field} if error.field else {})}}]
    }
    status = 406 if error.code == "NOT_ACCEPTABLE" else OWN[error.kind]
    return HttpResponse(status, json.dumps(body), media + b"; charset=utf-8")
