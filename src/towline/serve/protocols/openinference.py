"""The Open Inference Protocol's REST API (v2): health, metadata, readiness and infer, as KServe, Triton and MLServer speak it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import towline
from towline.core import dtypes
from towline.core.errors import InvalidRequest, NotFound, TowlineError, Unavailable
from towline.core.inference import Response
from towline.core.manifest import TensorSpec
from towline.serve.codecs import json
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, Handler, HttpRequest, HttpResponse, Reply, Route, Served
from towline.serve.protocols import incoming, openinference_request, openinference_response
from towline.serve.protocols.errors import allowing, open_inference_error, printable, wrong_method

PROTOCOL = "openinference-rest"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
    "trace",
)
_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
# Whoever starts and watches a server needs no key for these.
_PROBES = ("/v2/health/live", "/v2/health/ready")
Handle = Callable[[HttpRequest, Mapping[str, str]], HttpResponse]


def routes(plane: DataPlane, limits: Limits, *, empty_health: bool = False) -> tuple[Route, ...]:
    """The table, to be tried in order; a method of "*" takes every verb. Nothing under /v2 is left to others.

    `empty_health`: health is told by the status alone, as Triton does.
    """
    api = _Api(plane, limits, empty_health=empty_health)
    answers = (
        ("/v2/?", api.server),
        ("/v2/health/live", api.live),
        ("/v2/health/ready", api.ready),
        ("/v2/models/?", api.models),
        (f"{_MODEL}/ready", api.model_ready),
        (_MODEL, api.model),
    )
    return (
        Route("POST", f"{_MODEL}/infer", api.infer, json_size=_json_size, takes_buffer=True),
        *(Route("GET", pattern, _answering(handle), is_open=pattern in _PROBES) for pattern, handle in answers),
        Route("*", f"{_MODEL}/infer", _answering(_refusing("POST"))),
        *(Route("*", pattern, _answering(_refusing("GET"))) for pattern, _ in answers),
        Route("*", "/v2/.*", _answering(_no_such_path)),
    )


def _json_size(request: HttpRequest, names: Mapping[str, str], size: int) -> int:
    """What stands before the binary tensors."""
    before = request.header(b"inference-header-content-length")
    return size if before is None or not before.isdigit() or len(before) > 18 else min(int(before), size)


def _answering(handle: Handle) -> Handler:
    """A handler that answers at once."""

    def handler(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        try:
            response = handle(request, names)
        except TowlineError as error:
            response = open_inference_error(error)
        reply(response)

    return handler


def _refusing(*allowed: str) -> Handle:
    def handle(request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        return allowing(open_inference_error(wrong_method(request.method, allowed)), allowed)

    return handle


def _no_such_path(request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    raise NotFound(f"There is nothing at {printable(request.path)}.", field="path")


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits, *, empty_health: bool) -> None:
        self._plane, self._limits = plane, limits
        self._empty_health = empty_health

    def infer(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        try:
            served = self._find(names)
            body, deadline = incoming.read(request, self._limits)
            header_length = request.header(b"inference-header-content-length")
            if header_length is None:
                # All of it is JSON.
                body = bytes(body)
            asked = openinference_request.codec_for(served, self._limits).decode(body, header_length, deadline, request.received_s)
        except TowlineError as error:
            reply(open_inference_error(error))
            return None
        accept_encoding = request.header(b"accept-encoding")
        labels, has_batch = served.labels, asked.has_batch

        def done(result: Response | TowlineError) -> None:
            try:
                if isinstance(result, TowlineError):
                    raise result
                response = openinference_response.encode(result, asked, labels, has_batch=has_batch, accept_encoding=accept_encoding)
            except TowlineError as error:
                response = open_inference_error(error)
            reply(response)

        return self._plane.infer(served, asked.request, done, protocol=PROTOCOL)

    def _find(self, names: Mapping[str, str]) -> Served:
        return find(self._plane, names["model"], names.get("version"))

    def server(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        return _json(200, describe_server())

    def live(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        return self._health(200, {"live": True})

    def ready(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        # The status is the contract: 200 or, as Triton has it, 400.
        is_ready = self._plane.is_ready()
        return self._health(200 if is_ready else 400, {"ready": is_ready})

    def _health(self, status: int, body: dict[str, Any]) -> HttpResponse:
        return HttpResponse(status) if self._empty_health else _json(status, body)

    def models(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        return _json(200, {"models": sorted(self._plane.names())})

    def model_ready(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        try:
            served = self._find(names)
        except Unavailable:
            return self._health(400, {"name": names["model"], "ready": False})
        return self._health(200, {"name": served.name, "ready": True})

    def model(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        return _json(200, describe_model(self._plane, self._find(names)))


def find(plane: DataPlane, name: str, version: str | None) -> Served:
    """The ready version that a request means. Raises in Triton's words."""
    if version is not None and not _NUMBER.fullmatch(version):
        raise InvalidRequest(f"'{printable(version, 32)}' is not a version: expected a number from 1.", code="BAD_VERSION", field="version")
    try:
        return plane.find(name, number=int(version) if version else None)
    except NotFound:
        which = f"version {version} of " if version else ""
        raise NotFound(f"Request for unknown model: {which}'{printable(name)}' is not found", field="model") from None


def describe_server() -> dict[str, Any]:
    return {"name": "towline", "version": towline.__version__, "extensions": list(EXTENSIONS)}


def describe_model(plane: DataPlane, served: Served) -> dict[str, Any]:
    signature = served.signature()
    versions = [str(status.number) for status in plane.status(served.name) if status.state == "AVAILABLE"]
    engine = served.manifest.engine
    return {
        "name": served.name,
        "versions": versions or [str(served.number)],
        # Triton's word for this engine; the others have none there.
        "platform": "onnxruntime_onnx" if engine == "onnxruntime" else engine,
        "inputs": [_describe(spec) for spec in signature.inputs],
        "outputs": [_describe(spec) for spec in signature.outputs],
    }


def _describe(spec: TensorSpec) -> dict[str, Any]:
    """A tensor's metadata. A dim that varies, and the one dim of a tensor of unknown rank, is -1."""
    shape = [-1] if spec.shape is None else [dim if isinstance(dim, int) else -1 for dim in spec.shape]
    return {"name": spec.name, "datatype": dtypes.BY_NAME[spec.dtype].v2, "shape": shape}


def _json(status: int, body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(status, json.dumps(body))
