"""Triton's repository, statistics, configuration, trace and log methods over gRPC: what REST says, in messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towline.serve.contract import Control, DataPlane
from towline.serve.protocols import repository, statistics
from towline.serve.protocols.grpc.calls import answering, changing
from towline.serve.protocols.grpc.contract import Call, Method
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import OPEN_INFERENCE
from towline.serve.protocols.openinference import find

PROTOCOL = "openinference-grpc"
_SERVICE = "inference.GRPCInferenceService"


def methods(plane: DataPlane, control: Control) -> dict[str, Method]:
    """Every method by its path."""
    api = _Api(plane, control)
    at_once = {
        "RepositoryIndex": api.index,
        "ModelStatistics": api.statistics,
        "ModelConfig": api.config,
        "TraceSetting": api.trace,
        "LogSettings": api.logging,
    }
    found = {name: answering(f"inference.{name}Request", OPEN_INFERENCE, handle) for name, handle in at_once.items()}
    for name, change in (("RepositoryModelLoad", api.load), ("RepositoryModelUnload", api.unload)):
        found[name] = changing(f"inference.{name}Request", OPEN_INFERENCE, change)
    return {f"/{_SERVICE}/{name}": method for name, method in found.items()}


class _Api:
    def __init__(self, plane: DataPlane, control: Control) -> None:
        self._plane, self._control = plane, control

    def index(self, request: Any) -> Any:
        entries = repository.listed(self._control, only_ready=request.ready)
        models = [
            {"name": one.name, "version": str(one.version) if one.version is not None else "", "state": one.state, "reason": one.reason}
            for one in entries
        ]
        return MESSAGES["inference.RepositoryIndexResponse"](models=models)

    async def load(self, request: Any, call: Call) -> Any:
        asked = repository.asked_of(_parameters(request), base64=False)
        await self._control.load(request.model_name, asked, actor=call.actor(PROTOCOL))
        return MESSAGES["inference.RepositoryModelLoadResponse"]()

    async def unload(self, request: Any, call: Call) -> Any:
        repository.check_unload(_parameters(request))
        await self._control.unload(request.model_name, actor=call.actor(PROTOCOL))
        return MESSAGES["inference.RepositoryModelUnloadResponse"]()

    def statistics(self, request: Any) -> Any:
        found = statistics.statistics_of(self._plane, self._control, request.name, request.version or None)
        for one in found:
            # A map of Triton's that is always empty here; our message leaves it out.
            del one["response_stats"]
        return _message("inference.ModelStatisticsResponse", {"model_stats": found})

    def config(self, request: Any) -> Any:
        served = find(self._plane, request.name, request.version or None)
        return _message("inference.ModelConfigResponse", {"config": statistics.config_of(served, self._control.max_batch(served))})

    def trace(self, request: Any) -> Any:
        if request.model_name:
            find(self._plane, request.model_name, None)
        # None clears a setting; one level is a list of one, anything else is plain text.
        asked = {name: _trace_value(name, list(setting.value)) for name, setting in request.settings.items()}
        statistics.check_unchanged(asked, statistics.TRACE, "tracing")
        settings = {name: {"value": value if isinstance(value, list) else [value]} for name, value in statistics.TRACE.items()}
        return _message("inference.TraceSettingResponse", {"settings": settings})

    def logging(self, request: Any) -> Any:
        statistics.check_unchanged({name: _choice(value) for name, value in request.settings.items()}, statistics.LOGGING, "logging")
        settings = {name: {_LOG_KINDS[type(value)]: value} for name, value in statistics.LOGGING.items()}
        return _message("inference.LogSettingsResponse", {"settings": settings})


_LOG_KINDS: Mapping[type, str] = {bool: "bool_param", int: "uint32_param", str: "string_param"}


def _trace_value(name: str, values: list[str]) -> Any:
    if not values:
        return None
    return values if name == "trace_level" or len(values) > 1 else values[0]


def _parameters(request: Any) -> dict[str, Any]:
    return {name: _choice(value) for name, value in request.parameters.items()}


def _choice(value: Any) -> Any:
    which = value.WhichOneof("parameter_choice")
    return getattr(value, which) if which else None


def _message(name: str, content: Mapping[str, Any]) -> Any:
    # Imported when somebody asks: no request needs it.
    from google.protobuf import json_format  # type: ignore[import-untyped]

    return json_format.ParseDict(content, MESSAGES[name]())
