"""Plain prediction: POST /predict and /models/{m}/predict: numbers, text, files, forms in; the model's answer, with labels, out."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping

from towline.core.errors import InvalidRequest, Kind, NotFound, TowlineError
from towline.core.inference import Response
from towline.core.refs import clip
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, HttpRequest, HttpResponse, Reply, Route, Served
from towline.serve.protocols import bodies, events, incoming, simple_answer, simple_body, simple_upload
from towline.serve.protocols.errors import allowing, own_error, printable, request_id, wrong_method
from towline.serve.protocols.simple_answer import About
from towline.serve.protocols.simple_body import Asked

PROTOCOL = "predict"
_MODEL = r"/models/(?P<model>[^/]+)/predict"

_TAKEN_FOR_JSON = ("application/json", "application/x-www-form-urlencoded")
MAX_TOP = 1000
_MAX_QUERY_FIELDS = 100
# What is well written and does not fit the model: 422, as services with a schema answer it.
_UNFIT = ("SHAPE_MISMATCH", "DIM_MISMATCH")
_PROBABILITIES = ("softmax", "sigmoid")


def routes(plane: DataPlane, limits: Limits) -> tuple[Route, ...]:
    """The table, to be tried in order; a method of "*" takes every verb."""
    api = _Api(plane, limits)
    return tuple(Route("POST", pattern, api.predict, json_size=api.json_size) for pattern in ("/predict", _MODEL)) + tuple(
        Route("*", pattern, _only_post) for pattern in ("/predict", _MODEL)
    )


def _only_post(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
    reply(allowing(own_error(wrong_method(request.method, ("POST",)), request), ("POST",)))


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    def json_size(self, request: HttpRequest, names: Mapping[str, str], size: int) -> int:
        try:
            return simple_upload.json_size(self._find(names), request, size)
        except TowlineError:
            # It is refused before its body is read.
            return 0

    def predict(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        try:
            served = self._find(names)
            if bodies.passes_body(served):
                return bodies.predict(self._plane, served, request, self._limits, reply, protocol=PROTOCOL)
            top = _top(_in_query(request.query), "top") if request.query else 0
            asked, top = self._read(served, request, top)
        except TowlineError as error:
            reply(refusal(error, request))
            return None
        labels = served.labels
        if events.wants_events(served, request):
            wording = bodies.own_wording(request, lambda part: simple_answer.encode(part, labels, is_item=asked.is_item, top=top))
            return events.answer(self._plane, served, asked.request, wording, reply, protocol=PROTOCOL)

        def done(result: Response | TowlineError) -> None:
            try:
                if isinstance(result, TowlineError):
                    raise result
                about = None if asked.is_plain else About(request_id(request), _gives_probabilities(served))
                response = HttpResponse(200, simple_answer.encode(result, labels, is_item=asked.is_item, top=top, about=about))
            except TowlineError as error:
                response = refusal(error, request)
            reply(response)

        return self._plane.infer(served, asked.request, done, protocol=PROTOCOL)

    def _read(self, served: Served, request: HttpRequest, top: int) -> tuple[Asked, int]:
        """The decoded body, and how many classes are asked for."""
        codec = simple_body.codec_for(served, self._limits)
        given = request.header(b"content-type")
        body, deadline = incoming.read(request, self._limits)
        if given is None or given == b"application/json":
            return codec.decode(body, deadline), top
        content_type = given.decode("latin-1")
        media = content_type.partition(";")[0].strip().lower()
        if media == simple_upload.FORM:
            parts = simple_upload.parts_of(body, content_type)
            asked = simple_upload.decode_parts(codec, parts, deadline)
            return asked, top or _top(simple_upload.parameters(parts).get("top"), "top")
        if simple_upload.is_file(media):
            _check_charset(content_type)
            return simple_upload.decode_file(codec, body, media, deadline), top
        check_content_type(given)
        return codec.decode(body, deadline), top

    def _find(self, names: Mapping[str, str]) -> Served:
        name = names.get("model")
        if name is None:
            return self._plane.only()
        try:
            return self._plane.find(name)
        except NotFound:
            raise NotFound(f"There is no model '{printable(name)}' here.", field="model", hint="GET /v2/models lists them.") from None


def check_content_type(value: bytes | None) -> None:
    """JSON in UTF-8. No type at all, and the one `curl -d` sends unasked, are taken for it, as hand-written services do."""
    media, _, parameters = (value or b"application/json").decode("latin-1").lower().partition(";")
    if media.strip() not in _TAKEN_FOR_JSON or not _is_utf8(parameters):
        raise InvalidRequest(
            "The body must be JSON in UTF-8.",
            code="UNSUPPORTED_MEDIA_TYPE",
            kind=Kind.UNSUPPORTED_MEDIA,
            field="content-type",
            hint="Add the header Content-Type: application/json.",
        )


def _is_utf8(parameters: str) -> bool:
    return parameters.replace(" ", "").replace('"', "") in ("", "charset=utf-8")


def _check_charset(content_type: str) -> None:
    """Text in another encoding would be read as other words, or refused as no text."""
    media, _, parameters = content_type.lower().partition(";")
    if media.strip() == "text/plain" and not _is_utf8(parameters):
        raise InvalidRequest("Text must be UTF-8.", code="UNSUPPORTED_MEDIA_TYPE", kind=Kind.UNSUPPORTED_MEDIA, field="content-type")


def refusal(error: TowlineError, request: HttpRequest) -> HttpResponse:
    response = own_error(error, request)
    if error.code in _UNFIT and response.status == 400:
        response.status = 422
    return response


def _in_query(query: str) -> str | None:
    """The value of `top`; a query may hold what others put there."""
    try:
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise InvalidRequest(f"The query has more than {_MAX_QUERY_FIELDS} fields.", code="BAD_TARGET", field="query") from None
    return next((value for name, value in pairs if name == "top"), None)


def _top(value: str | None, field: str) -> int:
    """How many classes are asked for; 0 when it was not said."""
    if value is None:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 4 and 1 <= int(value) <= MAX_TOP):
        raise InvalidRequest(
            f"'top' must be a whole number from 1 to {MAX_TOP}, got '{clip(printable(value), 16)}'.", code="OUT_OF_RANGE", field=field
        )
    return int(value)


def _gives_probabilities(served: Served) -> bool:
    return any(step.kind in _PROBABILITIES for step in served.manifest.processing.after)
