"""TorchServe's inference API, for `--compat torchserve`: `/predictions/{m}[/{v}]` by any verb, `/ping`; its errors' own shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from towline.core.errors import InvalidRequest, Kind, NotFound, TowlineError
from towline.core.inference import Response
from towline.serve.codecs import json
from towline.serve.codecs.check import Limits
from towline.serve.codecs.multipart import Part
from towline.serve.contract import DataPlane, HttpRequest, HttpResponse, Reply, Route, Served
from towline.serve.protocols import bodies, incoming, simple_body, simple_upload
from towline.serve.protocols.errors import OWN, message_of, own_error, printable
from towline.serve.protocols.simple_body import Asked

PROTOCOL = "torchserve"
_MODEL = r"/predictions/(?P<model>[^/]+)(?:/(?P<version>[^/]+))?"
# A version is any text there, mostly 1.0; here it is a number.
_VERSION = re.compile(r"([1-9][0-9]{0,17})(?:\.0)*")
_JSON, _FORM, _BYTES = "application/json", "multipart/form-data", "application/octet-stream"
# The part that a handler of TorchServe's reads.
_PARTS = ("data", "body")
_TYPES = {
    Kind.NOT_FOUND: "ModelNotFoundException",
    Kind.WRONG_METHOD: "MethodNotAllowedException",
    Kind.EXHAUSTED: "ServiceUnavailableException",
    Kind.UNAVAILABLE: "ServiceUnavailableException",
    Kind.TOO_LARGE: "RequestEntityTooLargeException",
    Kind.INTERNAL: "InternalServerException",
}


def routes(plane: DataPlane, limits: Limits) -> tuple[Route, ...]:
    def ping(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        is_ready = plane.is_ready()
        reply(HttpResponse(200 if is_ready else 500, b'{"status":"Healthy"}' if is_ready else b'{"status":"Unhealthy"}'))

    api = _Api(plane, limits)
    # `curl -T picture.jpg`, as TorchServe's pages have it, is a PUT.
    predictions = tuple(Route(verb, _MODEL, api.predict, json_size=api.json_size) for verb in ("POST", "PUT"))
    return (*predictions, Route("GET", "/ping", ping, is_open=True))


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    def json_size(self, request: HttpRequest, names: Mapping[str, str], size: int) -> int:
        try:
            served = self._find(names["model"], names.get("version"))
        except TowlineError:
            return 0
        media = _media(request)
        is_file = bool(simple_body.codec_for(served, self._limits).kinds) and media != _JSON
        return 0 if bodies.passes_body(served) or is_file or media == _FORM else size

    def predict(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        try:
            served = self._find(names["model"], names.get("version"))
            if bodies.passes_body(served):
                return bodies.predict(self._plane, served, request, self._limits, reply, protocol=PROTOCOL)
            asked = self._read(served, request)
        except TowlineError as error:
            reply(_refusal(error))
            return None

        def done(result: Response | TowlineError) -> None:
            reply(_refusal(result) if isinstance(result, TowlineError) else HttpResponse(200, json.dumps(answer(result, served.labels))))

        return self._plane.infer(served, asked.request, done, protocol=PROTOCOL)

    def _find(self, name: str, version: str | None) -> Served:
        number = None
        if version is not None:
            found = _VERSION.fullmatch(version)
            if found is None:
                raise NotFound(f"Model version: {printable(version)} does not exist for model: {printable(name)}", code="VERSION_NOT_FOUND")
            number = int(found[1])
        try:
            return self._plane.find(name, number=number)
        except NotFound as error:
            message = f"Model not found: {printable(name)}" if error.code == "MODEL_NOT_FOUND" else error.message
            raise NotFound(message, code=error.code) from None

    def _read(self, served: Served, request: HttpRequest) -> Asked:
        """A body is the file that its handler was given, whatever its type says; a form has it in a part."""
        codec = simple_body.codec_for(served, self._limits)
        content_type = (request.header(b"content-type") or b"").decode("latin-1")
        media = _media(request)
        body, deadline = incoming.read(request, self._limits)
        if media == _FORM:
            return simple_upload.decode_file(codec, _only_part(simple_upload.parts_of(body, content_type)), _BYTES, deadline)
        if media == _JSON or not codec.kinds:
            return codec.decode(body, deadline)
        return simple_upload.decode_file(codec, body, _BYTES, deadline)


def _media(request: HttpRequest) -> str:
    return (request.header(b"content-type") or b"").decode("latin-1").partition(";")[0].strip().lower()


def answer(response: Response, labels: tuple[str, ...]) -> Any:
    """Of the first row: `{"tabby": 0.41, …}` for ranked classes, as map_class_to_label has it; `[class, probability]` of each pixel, as the
    image segmenter has it; else its numbers, as tolist() has them.
    """
    outputs = response.outputs
    score, index = outputs.get("score"), outputs.get("index")
    if score is not None and index is not None and score.shape == index.shape:
        if score.ndim == 2:
            names = [labels[which] if 0 <= which < len(labels) else str(which) for which in map(int, index[0])]
            return dict(zip(names, score[0], strict=True))
        if score.ndim == 3:
            return json.jsonable(np.stack((index[0].astype(score.dtype), score[0]), axis=-1), json.plain_text)
    rows = {name: json.jsonable(array[0] if array.ndim else array, json.plain_text) for name, array in outputs.items()}
    return next(iter(rows.values())) if len(rows) == 1 else rows


def _only_part(parts: list[Part]) -> bytes:
    named = [part for part in parts if part.name in _PARTS] or [part for part in parts if part.is_file]
    if len(named) != 1:
        raise InvalidRequest("Expected one part named 'data'.", code="MISSING_INPUT", field="data")
    return named[0].content


def _refusal(error: TowlineError) -> HttpResponse:
    """`{"code": 404, "type": "ModelNotFoundException", "message": "…"}`, under the status and headers that our own errors have."""
    ours = own_error(error)
    status = 503 if error.kind is Kind.EXHAUSTED else OWN[error.kind]
    kind = "ModelVersionNotFoundException" if error.code == "VERSION_NOT_FOUND" else _TYPES.get(error.kind, "BadRequestException")
    body = json.dumps({"code": status, "type": kind, "message": message_of(error)})
    return HttpResponse(status, body, headers=ours.headers, refusal=ours.refusal)
