"""Triton's generate extension: `/v2/models/{m}/generate` and `generate_stream`, JSON keys in, JSON keys out, one event for each part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from towline.core.errors import InvalidRequest, TowlineError
from towline.core.inference import Request, Response
from towline.core.manifest import TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import check, exact, json, nested
from towline.serve.codecs.check import InputCheck, Limits
from towline.serve.contract import DataPlane, HttpRequest, HttpResponse, Reply, Route, Served
from towline.serve.protocols import bodies, events, incoming
from towline.serve.protocols.errors import allowing, open_inference_error, wrong_method
from towline.serve.protocols.openinference import find

PROTOCOL = "generate"
_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
# What a request may hold beside its inputs: Triton's own words for it.
_BESIDE = ("id", "parameters")


def routes(plane: DataPlane, limits: Limits) -> tuple[Route, ...]:
    """To be tried before those of openinference.py, which leave nothing under /v2 to others."""
    api = _Api(plane, limits)
    return (
        Route("POST", f"{_MODEL}/generate", api.generate, json_size=api.json_size),
        Route("POST", f"{_MODEL}/generate_stream", api.generate_stream, json_size=api.json_size),
        Route("*", f"{_MODEL}/generate(?:_stream)?", _only_post),
    )


def _only_post(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
    reply(allowing(open_inference_error(wrong_method(request.method, ("POST",))), ("POST",)))


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    def json_size(self, request: HttpRequest, names: Mapping[str, str], size: int) -> int:
        try:
            return 0 if bodies.passes_body(find(self._plane, names["model"], names.get("version"))) else size
        except TowlineError:
            return 0

    def generate(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        return self._run(request, names, reply, in_parts=False)

    def generate_stream(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        return self._run(request, names, reply, in_parts=True)

    def _run(self, request: HttpRequest, names: Mapping[str, str], reply: Reply, *, in_parts: bool) -> Callable[[], None] | None:
        try:
            served = find(self._plane, names["model"], names.get("version"))
            if bodies.passes_body(served):
                wording = _wording(bodies.body_of)
                return bodies.run(self._plane, served, request, self._limits, wording, reply, protocol=PROTOCOL, in_parts=in_parts)
            body, deadline = incoming.read(request, self._limits)
            asked, id = _decode(body, served, self._limits, deadline)
        except TowlineError as error:
            reply(open_inference_error(error))
            return None
        wording = _wording(lambda response: _encode(response, id))
        if in_parts:
            return events.answer(self._plane, served, asked, wording, reply, protocol=PROTOCOL)

        def done(result: Response | TowlineError) -> None:
            reply(open_inference_error(result) if isinstance(result, TowlineError) else HttpResponse(200, _encode(result, id)))

        return self._plane.infer(served, asked, done, protocol=PROTOCOL)


def _wording(part: Callable[[Response], bytes]) -> events.Wording:
    # Triton's streams end without a word, and an error is an event like the others.
    return events.Wording(part, open_inference_error, lambda error: events.data(open_inference_error(error).body), end=b"")


def _decode(body: bytes, served: Served, limits: Limits, deadline: float | None) -> tuple[Request, str]:
    document = exact.parse(body)
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be an object with the model's inputs as keys.", code="WRONG_TYPE", field="body")
    id = document.get("id", "")
    if not isinstance(id, str):
        raise InvalidRequest("'id' must be a string.", code="WRONG_TYPE", field="id")
    specs = served.signature().inputs
    wanted = [spec.name for spec in specs]
    missing = [name for name in wanted if name not in document]
    if missing:
        raise InvalidRequest(
            f"Input {check.list_names(missing)} is missing. Inputs: {check.list_names(wanted)}.", code="MISSING_INPUT", field=missing[0]
        )
    unknown = [name for name in document if name not in wanted and name not in _BESIDE]
    if unknown:
        raise InvalidRequest(
            f"There is no input '{clip(unknown[0])}'. Inputs: {check.list_names(wanted)}.", code="UNKNOWN_INPUT", field=clip(unknown[0])
        )
    arrays = [_array(document[spec.name], spec, limits) for spec in specs]
    rows = InputCheck(served.signature(), limits).rows([array.shape for array in arrays], wanted)
    return Request(dict(zip(wanted, arrays, strict=True)), rows, deadline, id=id), id


def _array(value: Any, spec: TensorSpec, limits: Limits) -> np.ndarray:
    """A value as one row: what is less deep than its tensor gains dims of one before its own."""
    array = nested.to_array(value, spec, clip(spec.name), limits)
    rank = array.ndim if spec.shape is None else len(spec.shape)
    return array.reshape((1,) * max(rank - array.ndim, 0) + array.shape)


def _encode(response: Response, id: str) -> bytes:
    """Each output under its name: one element as it is, several as a flat list."""
    document: dict[str, Any] = {"id": id} if id else {}
    document |= {"model_name": response.name, "model_version": str(response.number)}
    for name, array in response.outputs.items():
        written = json.jsonable(array.reshape(-1), json.plain_text)
        document[name] = written[0] if array.size == 1 else written
    return json.dumps(document)
