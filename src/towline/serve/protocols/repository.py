"""Triton's model_repository extension over REST: what there is, load one, unload one."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from towline.core.errors import InvalidRequest, Kind, TowlineError
from towline.serve.codecs import exact, json
from towline.serve.codecs.check import Limits
from towline.serve.contract import Asked, Control, HttpRequest, HttpResponse, IndexEntry, Reply, Route
from towline.serve.protocols import incoming
from towline.serve.protocols.errors import allowing, open_inference_error, printable, wrong_method

PROTOCOL = "openinference-rest"
# There is one repository; clients of Triton may name it.
_REPOSITORY = r"/v2/repository(?:/(?!models/|index$)[^/]+)?"
_MODEL = rf"{_REPOSITORY}/models/(?P<model>[^/]+)"
_FILE = re.compile(r"[1-9][0-9]{0,17}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){1,8}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_MAX_FILES = 64
# Up to here a key given twice is refused; larger bodies hold files, and are read by the quick parser, for which the last one counts.
_EXACT_BYTES = 1 << 20
# What would have this server read a place that a client names.
_PLACES = ("url", "uri", "path", "source", "base_path", "repository", "repository_path")

log = logging.getLogger("towline.serve")
Answer = Callable[[HttpRequest, Mapping[str, str]], Awaitable[HttpResponse]]


def routes(control: Control, limits: Limits) -> tuple[Route, ...]:
    """The table, to be tried before the one of the Open Inference Protocol, which leaves nothing under /v2 to others."""
    api = _Api(control, limits)
    answers = ((f"{_REPOSITORY}/index", api.index), (f"{_MODEL}/load", api.load), (f"{_MODEL}/unload", api.unload))
    return (
        *(Route("POST", pattern, _Answering(answer)) for pattern, answer in answers),
        *(Route("*", pattern, _only_post) for pattern, _ in answers),
    )


class _Answering:
    """A handler that answers when it is done. It is held here meanwhile: the loop itself only remembers its tasks weakly."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None]:
        task = asyncio.ensure_future(self._run(request, names, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return lambda: void(task.cancel())

    async def _run(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        try:
            response = await self._answer(request, names)
        except TowlineError as error:
            response = open_inference_error(error)
        except Exception:
            log.exception("a change of what is served failed")
            response = open_inference_error(TowlineError("The server failed while answering this; its log says why."))
        reply(response)


def void(result: object) -> None:
    """Cancelling tells whether it did anything; nobody asks."""


def _only_post(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
    reply(allowing(open_inference_error(wrong_method(request.method, ("POST",))), ("POST",)))


class _Api:
    def __init__(self, control: Control, limits: Limits) -> None:
        self._control, self._limits = control, limits

    async def index(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        ready = self._body(request).get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequest("'ready' must be true or false.", field="ready")
        return HttpResponse(200, json.dumps([_line(entry) for entry in listed(self._control, only_ready=ready)]))

    async def load(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        asked = asked_of(_parameters(self._body(request)), base64=True)
        loaded = await self._control.load(names["model"], asked, actor=actor_of(request))
        return HttpResponse(200, json.dumps({"name": loaded.name, "versions": [str(n) for n in loaded.numbers], "notes": loaded.notes}))

    async def unload(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        check_unload(_parameters(self._body(request)))
        await self._control.unload(names["model"], actor=actor_of(request))
        return HttpResponse(200)

    def _body(self, request: HttpRequest) -> dict[str, Any]:
        body, _ = incoming.read(request, self._limits)
        if not body.strip():
            return {}
        found = exact.parse(body) if len(body) <= _EXACT_BYTES else _quickly(body)
        if not isinstance(found, dict):
            raise InvalidRequest("The body must be a JSON object.", code="BAD_JSON")
        return found


def _quickly(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise InvalidRequest("The JSON is nested too deeply.", code="BAD_JSON") from None
        raise exact.explain(error) from None


def _parameters(body: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("'parameters' must be an object.", field="parameters")
    return parameters


def _line(entry: IndexEntry) -> dict[str, str]:
    version = {} if entry.version is None else {"version": str(entry.version)}
    return {"name": entry.name, **version, "state": entry.state, "reason": entry.reason}


def listed(control: Control, *, only_ready: bool) -> list[IndexEntry]:
    return [entry for entry in control.repository_index() if not only_ready or entry.state == "READY"]


def actor_of(request: HttpRequest) -> str:
    return f"{PROTOCOL} {request.peer[0]}" if request.peer else PROTOCOL


def asked_of(parameters: Mapping[str, Any], *, base64: bool) -> Asked:
    """What a load's parameters ask for: `config`, `version`, `alias`, and files as `file:N/NAME`. Raises TowlineError."""
    files: dict[str, bytes] = {}
    config, number, alias = "", None, ""
    for name, value in parameters.items():
        field = f"parameters.{printable(name)}"
        if name.startswith("file:"):
            files[_file_name(name, field)] = value.encode() if isinstance(value, str) else _text(value, field, bytes)
        elif name == "config":
            config = _text(value, field, str)
        elif name == "version":
            number = _number(value, field)
        elif name == "alias":
            alias = _text(value, field, str)
        elif name.lower() in _PLACES:
            raise _no_places(field)
        else:
            raise InvalidRequest(
                f"'{field}' means nothing to a load.",
                code="UNKNOWN_PARAMETER",
                field=field,
                hint="Known: config, version, alias, file:N/NAME.",
            )
    if len(files) > _MAX_FILES:
        raise InvalidRequest(f"{len(files)} files are given; a load takes at most {_MAX_FILES}.", code="TOO_MANY_FILES", field="parameters")
    if sum((number is not None, bool(alias), bool(files))) > 1:
        raise InvalidRequest("Give one of 'version', 'alias' and files, not several.", code="AMBIGUOUS", field="parameters")
    if files and not config:
        raise InvalidRequest(
            "Files were given without the model's configuration.",
            code="CONFIG_MISSING",
            field="parameters.config",
            hint="An empty one will do: {}",
        )
    return Asked(number, alias, config, files, base64 and bool(files))


def check_unload(parameters: Mapping[str, Any]) -> None:
    """No model here has dependents, so that asking for theirs changes nothing."""
    for name, value in parameters.items():
        if name != "unload_dependents":
            raise InvalidRequest(
                f"'parameters.{printable(name)}' means nothing to an unload.",
                code="UNKNOWN_PARAMETER",
                field=f"parameters.{printable(name)}",
            )
        if not isinstance(value, bool):
            raise InvalidRequest("'unload_dependents' must be true or false.", field="parameters.unload_dependents")


def _file_name(name: str, field: str) -> str:
    path = name.removeprefix("file:")
    if "://" in path:
        raise _no_places(field)
    if not _FILE.fullmatch(path):
        raise InvalidRequest(
            f"'{printable(name)}' names no file of a version.", code="BAD_FILE_NAME", field=field, hint="Name it like file:1/model.onnx."
        )
    return path


def _no_places(field: str) -> TowlineError:
    return TowlineError(
        f"'{field}' names a place; this server reads no place that a client names.",
        code="PLACE_NOT_ALLOWED",
        kind=Kind.DENIED,
        field=field,
        hint="Send the files in-line, or import them where the server runs: 'towline import', or serve --watch DIR.",
    )


def _text(value: Any, field: str, kind: type) -> Any:
    if not isinstance(value, kind):
        raise InvalidRequest(f"'{field}' must be text.", field=field)
    return value


def _number(value: Any, field: str) -> int:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"'{field}' must be a version's number from 1.", code="BAD_VERSION", field=field)
    return int(text)
