"""TF Serving's REST API: predict, classify, regress, status and metadata under /v1/models, with its paths, codes and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from towline.core.errors import InvalidRequest, Kind, NotFound, TowlineError
from towline.core.inference import Response
from towline.serve.codecs import json
from towline.serve.codecs.check import Limits
from towline.serve.contract import (
    DataPlane,
    Handler,
    HttpRequest,
    HttpResponse,
    JsonAnswer,
    Reply,
    Route,
    Served,
    VersionStatus,
    whole_body,
)
from towline.serve.protocols import incoming, tfserving_answer, tfserving_body, tfserving_examples_body
from towline.serve.protocols.errors import printable, tf_serving_error
from towline.serve.protocols.tfserving_examples import CLASSIFY_METHOD, REGRESS_METHOD

PROTOCOL = "tfserving-rest"
_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:(?:/versions/(?P<version>[0-9]+))|(?:/labels/(?P<label>[^/:]+)))?"
PREDICT_METHOD = "tensorflow/serving/predict"
Handle = Callable[[HttpRequest, Mapping[str, str]], HttpResponse]


def routes(plane: DataPlane, limits: Limits) -> tuple[Route, ...]:
    """The table, to be tried in order. A method of "*" takes every verb: TF Serving answers the wrong ones itself, with 400."""
    api = _Api(plane, limits)
    return (
        Route("POST", f"{_MODEL}:predict", api.predict, json_size=whole_body, ignore_case=True),
        Route("POST", f"{_MODEL}:(?P<method>classify|regress)", api.examples, json_size=whole_body, ignore_case=True),
        Route("GET", f"{_MODEL}/metadata", _answering(api.metadata), ignore_case=True),
        Route("GET", _MODEL, _answering(api.status), ignore_case=True),
        Route("GET", "/v1/models", _answering(api.no_name), ignore_case=True),
        Route("*", f"{_MODEL}(?::(?:predict|classify|regress)|/metadata)?", _answering(api.wrong_verb), ignore_case=True),
        Route("*", "/v1/models", _answering(api.wrong_verb), ignore_case=True),
        Route("*", "/v1/.*", _answering(api.wrong_path), ignore_case=True),
    )


def _answering(handle: Handle) -> Handler:
    """A handler that answers at once."""

    def handler(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        try:
            response = handle(request, names)
        except TowlineError as error:
            response = tf_serving_error(error)
        reply(response)

    return handler


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    def predict(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        try:
            try:
                served = self._plane.find(names["model"]) if len(names) == 1 else self._find(names)
            except NotFound:
                # Told again, in TF Serving's words.
                served = self._find(names)
            body, deadline = (request.body, None) if request.is_plain else incoming.read(request, self._limits)
            codec = served.codecs.get(tfserving_body.DEFAULT) or tfserving_body.codec_for(served, self._limits)
            decoded, form = codec.decode(body, deadline)
        except TowlineError as error:
            reply(tf_serving_error(error))
            return None

        def done(result: Response | TowlineError) -> None:
            try:
                if isinstance(result, TowlineError):
                    raise result
                response: HttpResponse = JsonAnswer(200, tfserving_answer.encode(result, form))
            except TowlineError as error:
                response = tf_serving_error(error)
            reply(response)

        return self._plane.infer(served, decoded, done, protocol=PROTOCOL)

    def examples(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> Callable[[], None] | None:
        method = CLASSIFY_METHOD if names["method"].lower() == "classify" else REGRESS_METHOD
        try:
            served = self._find(names)
            body, deadline = incoming.read(request, self._limits)
            decoded, task, rows = tfserving_examples_body.decode(body, served, self._limits, method, deadline)
        except TowlineError as error:
            reply(tf_serving_error(error))
            return None

        def done(result: Response | TowlineError) -> None:
            try:
                if isinstance(result, TowlineError):
                    raise result
                response = HttpResponse(200, tfserving_examples_body.encode(result, task, served.labels, rows))
            except TowlineError as error:
                response = tf_serving_error(error)
            reply(response)

        return self._plane.infer(served, decoded, done, protocol=PROTOCOL)

    def _find(self, names: Mapping[str, str]) -> Served:
        return find(self._plane, names["model"], names.get("version"), names.get("label") or "")

    def status(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        found = find_statuses(self._plane, names["model"], names.get("version"), names.get("label") or "")
        rows = [
            {
                "version": str(status.number),
                "state": status.state,
                "status": {"error_code": "UNKNOWN" if status.error else "OK", "error_message": status.error},
            }
            for status in found
        ]
        return HttpResponse(200, json.dumps({"model_version_status": rows}))

    def metadata(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        served = self._find(names)
        signatures: dict[str, Any] = {
            name: {
                "inputs": {spec.name: tfserving_answer.tensor_info(spec) for spec in signature.inputs},
                "outputs": {spec.name: tfserving_answer.tensor_info(spec) for spec in signature.outputs},
                "method_name": PREDICT_METHOD,
            }
            for name, signature in served.manifest.signatures.items()
        }
        body = {
            "model_spec": {"name": served.name, "signature_name": "", "version": str(served.number)},
            # Doubled, as TF Serving does: a map of Any that holds a SignatureDefMap.
            "metadata": {"signature_def": {"signature_def": signatures}},
        }
        return HttpResponse(200, json.dumps(body))

    def no_name(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        raise InvalidRequest("Missing model name in request.", code="MISSING_NAME", field="model")

    def wrong_verb(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        raise _malformed(request, Kind.WRONG_METHOD)

    def wrong_path(self, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
        raise _malformed(request, Kind.NOT_FOUND)


def find(plane: DataPlane, name: str, version: str | None, label: str) -> Served:
    """The ready version that a request means. Raises in TF Serving's words.

    Version 0 means the default, as OpenVINO Model Server's clients say it; no version here has that number.
    """
    version = None if version == "0" else version
    # More digits than any version has; int() would spend time on them.
    number = int(version) if version and len(version) <= 18 else None
    try:
        if version and number is None:
            raise NotFound("No version has a number this long.")
        return plane.find(name, number=number, label=label)
    except NotFound:
        if label and name in plane.names():
            raise InvalidRequest(f"Unrecognized servable version label: {printable(label)}", code="UNKNOWN_LABEL", field="label") from None
        which = f"Specific({printable(name)}, {printable(version, 20)})" if version else f"Latest({printable(name)})"
        raise NotFound(f"Servable not found for request: {which}", field="version" if version else "model") from None


def find_statuses(plane: DataPlane, name: str, version: str | None, label: str) -> list[VersionStatus]:
    """All versions of a model, or the one that a version or a label names; never empty. Raises in TF Serving's words."""
    unknown = NotFound(f"Could not find any versions of model {printable(name)}", field="model")
    try:
        found = plane.status(name)
    except NotFound:
        raise unknown from None
    if label:
        version = str(find(plane, name, version, label).number)
    if version and version != "0":
        found = [status for status in found if str(status.number) == version.lstrip("0")]
        if not found:
            raise NotFound(f"Could not find version {printable(version, 20)} of model {printable(name)}", field="version")
    if not found:
        raise unknown
    return found


def _malformed(request: HttpRequest, kind: Kind) -> TowlineError:
    return TowlineError(
        f"Malformed request: {printable(request.method, 16)} {printable(request.path)}", code="MALFORMED_REQUEST", kind=kind
    )
