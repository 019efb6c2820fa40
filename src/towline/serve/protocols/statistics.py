"""Triton's statistics, model_configuration, trace and logging extensions over REST: what can be seen, and what cannot be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from towline.core import dtypes
from towline.core.errors import InvalidRequest, Kind, TowlineError
from towline.core.manifest import TensorSpec
from towline.serve.codecs import exact, json
from towline.serve.codecs.check import Limits
from towline.serve.contract import Control, Count, DataPlane, Handler, HttpRequest, HttpResponse, Reply, Route, Served, VersionStatistics
from towline.serve.protocols import incoming
from towline.serve.protocols.errors import allowing, open_inference_error, printable, wrong_method
from towline.serve.protocols.openinference import find

_ALL = r"/v2/models/stats"
_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_TRACE = r"/v2(?:/models/(?P<model>[^/]+))?/trace/setting"
_LOGGING = "/v2/logging"
# Nothing is traced, and nothing but the server's own terminal is written to.
TRACE = {"trace_file": "", "trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0", "trace_mode": "triton"}
LOGGING = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
_TRITON_TYPES = {"BYTES": "TYPE_STRING"}
Handle = Callable[[HttpRequest, Mapping[str, str]], dict[str, Any]]


def routes(plane: DataPlane, control: Control, limits: Limits) -> tuple[Route, ...]:
    """The table, to be tried before the one of the Open Inference Protocol, which leaves nothing under /v2 to others."""
    api = _Api(plane, control, limits)
    seen = ((_ALL, api.statistics), (f"{_MODEL}/stats", api.statistics), (f"{_MODEL}/config", api.config))
    settings = ((_TRACE, api.trace, api.set_trace), (_LOGGING, api.logging, api.set_logging))
    return (
        *(Route("GET", pattern, _answering(handle)) for pattern, handle in seen),
        *(Route("GET", pattern, _answering(show)) for pattern, show, _ in settings),
        *(Route("POST", pattern, _answering(change)) for pattern, _, change in settings),
        *(Route("*", pattern, _only("GET")) for pattern, _ in seen),
        *(Route("*", pattern, _only("GET", "POST")) for pattern, _, _ in settings),
    )


def _answering(handle: Handle) -> Handler:
    def handler(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        try:
            response = HttpResponse(200, json.dumps(handle(request, names)))
        except TowlineError as error:
            response = open_inference_error(error)
        reply(response)

    return handler


def _only(*allowed: str) -> Handler:
    def handler(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        reply(allowing(open_inference_error(wrong_method(request.method, allowed)), allowed))

    return handler


class _Api:
    def __init__(self, plane: DataPlane, control: Control, limits: Limits) -> None:
        self._plane, self._control, self._limits = plane, control, limits

    def statistics(self, request: HttpRequest, names: Mapping[str, str]) -> dict[str, Any]:
        return {"model_stats": statistics_of(self._plane, self._control, names.get("model", ""), names.get("version"))}

    def config(self, request: HttpRequest, names: Mapping[str, str]) -> dict[str, Any]:
        served = find(self._plane, names["model"], names.get("version"))
        return config_of(served, self._control.max_batch(served))

    def trace(self, request: HttpRequest, names: Mapping[str, str]) -> dict[str, Any]:
        if "model" in names:
            find(self._plane, names["model"], None)
        return TRACE

    def set_trace(self, request: HttpRequest, names: Mapping[str, str]) -> dict[str, Any]:
        current = self.trace(request, names)
        check_unchanged(self._body(request), current, "tracing")
        return current

    def logging(self, request: HttpRequest, names: Mapping[str, str]) -> dict[str, Any]:
        return LOGGING

    def set_logging(self, request: HttpRequest, names: Mapping[str, str]) -> dict[str, Any]:
        check_unchanged(self._body(request), LOGGING, "logging")
        return LOGGING

    def _body(self, request: HttpRequest) -> dict[str, Any]:
        body, _ = incoming.read(request, self._limits)
        found = exact.parse(body)
        if not isinstance(found, dict):
            raise InvalidRequest("The body must be a JSON object.", code="BAD_JSON")
        return found


def statistics_of(plane: DataPlane, control: Control, name: str, version: str | None) -> list[dict[str, Any]]:
    """`model_stats` of one model, of one version of it, or (no name) of all that is loaded."""
    if not name:
        return [describe(one) for one in control.statistics()]
    served = find(plane, name, version)
    return [describe(one) for one in control.statistics(name, served.number if version else None)]


def describe(one: VersionStatistics) -> dict[str, Any]:
    """One entry of `model_stats`. What is not the engine's time and not the queue's is told as compute_output."""
    nothing = {"count": one.compute.count, "ns": 0}
    return {
        "name": one.name,
        "version": str(one.number),
        "last_inference": one.last_ms,
        "inference_count": one.rows,
        "execution_count": one.executions,
        "inference_stats": {
            "success": _duration(one.success),
            "fail": _duration(one.fail),
            "queue": _duration(one.queue),
            "compute_input": nothing,
            "compute_infer": _duration(one.compute),
            "compute_output": _duration(one.rest),
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": {"count": spent.count, "ns": 0},
                "compute_infer": _duration(spent),
                "compute_output": {"count": spent.count, "ns": 0},
            }
            for rows, spent in one.sizes.items()
        ],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": one.memory_bytes}],
    }


def _duration(count: Count) -> dict[str, int]:
    return {"count": count.count, "ns": count.ns}


def config_of(served: Served, max_batch: int) -> dict[str, Any]:
    """Triton's ModelConfig, made of the manifest. A version whose rows may share a batch has a batch dimension, which dims leave out."""
    signature = served.signature()
    is_batched = served.manifest.batchable and all(spec.shape for spec in (*signature.inputs, *signature.outputs))
    is_ours = served.manifest.engine == "onnxruntime"
    return {
        "name": served.name,
        "platform": "onnxruntime_onnx" if is_ours else "",
        "backend": served.manifest.engine,
        "version_policy": {"specific": {"versions": [served.number]}},
        "max_batch_size": max_batch if is_batched else 0,
        "input": [{**_tensor(spec, is_batched), "format": "FORMAT_NONE"} for spec in signature.inputs],
        "output": [{**_tensor(spec, is_batched), "label_filename": ""} for spec in signature.outputs],
        "instance_group": [{"name": served.name, "kind": "KIND_CPU", "count": 1, "gpus": [], "profile": []}],
        **({"dynamic_batching": {"preferred_batch_size": [], "max_queue_delay_microseconds": 0}} if is_batched else {}),
        "default_model_filename": served.manifest.model_file.rpartition("/")[2],
        "parameters": {},
    }


def _tensor(spec: TensorSpec, is_batched: bool) -> dict[str, Any]:
    shape = [-1] if spec.shape is None else [dim if isinstance(dim, int) else -1 for dim in spec.shape]
    word = dtypes.BY_NAME[spec.dtype].v2
    return {"name": spec.name, "data_type": _TRITON_TYPES.get(word, f"TYPE_{word}"), "dims": shape[1:] if is_batched else shape}


def check_unchanged(asked: Mapping[str, Any], current: Mapping[str, Any], what: str) -> None:
    """Null and what is so already are no change; anything else is refused, and a file's place most of all."""
    for name, value in asked.items():
        if name not in current:
            raise InvalidRequest(
                f"'{printable(name)}' is no setting of {what}; there is {', '.join(current)}.",
                code="UNKNOWN_SETTING",
                field=printable(name),
            )
        if value is None or value == current[name] or (name == "trace_level" and value == "OFF"):
            continue
        is_place = name.endswith("_file")
        raise TowlineError(
            f"'{name}' would have this server write where a client says." if is_place else f"Clients may not change {what} here.",
            code="SETTING_NOT_ALLOWED",
            kind=Kind.DENIED,
            field=name,
            hint="Its log goes to its terminal: redirect it there, and choose how much with the setting log_level (TOWLINE_LOG_LEVEL).",
        )
