"""Plain prediction: POST /predict and /models/{m}/predict, `{"input": …}` in, `{"output": …}` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from towline.core.errors import InvalidRequest, Kind, NotFound, TowlineError
from towline.core.inference import Response
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, HttpRequest, HttpResponse, Reply, Route, Served
from towline.serve.protocols import incoming, simple_body
from towline.serve.protocols.errors import allowing, own_error, printable, wrong_method

PROTOCOL = "predict"
_MODEL = r"/models/(?P<model>[^/]+)/predict"

_TAKEN_FOR_JSON = ("application/json", "application/x-www-form-urlencoded")


def routes(plane: DataPlane, limits: Limits) -> tuple[Route, ...]:
    """The table, to be tried in order; a method of "*" takes every verb."""
    api = _Api(plane, limits)
    return tuple(Route("POST", pattern, api.predict, infers=True) for pattern in ("/predict", _MODEL)) + tuple(
        Route("*", pattern, _only_post) for pattern in ("/predict", _MODEL)
    )


def _only_post(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
    reply(allowing(own_error(wrong_method(request.method, ("POST",)), request), ("POST",)))


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    def predict(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        try:
            served = self._find(names)
            check_content_type(request.header(b"content-type"))
            body, deadline = incoming.read(request, self._limits)
            decoded, is_item = simple_body.codec_for(served, self._limits).decode(body, deadline)
        except TowlineError as error:
            reply(own_error(error, request))
            return None
        labels = served.labels

        def done(result: Response | TowlineError) -> None:
            try:
                if isinstance(result, TowlineError):
                    raise result
                response = HttpResponse(200, simple_body.encode(result, labels, is_item=is_item))
            except TowlineError as error:
                response = own_error(error, request)
            reply(response)

        return self._plane.infer(served, decoded, done, protocol=PROTOCOL)

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
    charset = parameters.replace(" ", "").replace('"', "")
    if media.strip() not in _TAKEN_FOR_JSON or charset not in ("", "charset=utf-8"):
        raise InvalidRequest(
            "The body must be JSON in UTF-8.",
            code="UNSUPPORTED_MEDIA_TYPE",
            kind=Kind.UNSUPPORTED_MEDIA,
            field="content-type",
            hint="Add the header Content-Type: application/json.",
        )
