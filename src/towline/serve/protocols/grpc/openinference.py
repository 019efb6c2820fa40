"""`inference.GRPCInferenceService`: health, metadata and infer of the Open Inference Protocol, as Triton and KServe speak it."""

from __future__ import annotations

from typing import Any

from towline.core.errors import Unavailable
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane
from towline.serve.protocols.grpc import openinference_codec, openinference_stream
from towline.serve.protocols.grpc.calls import Work, answering, inferring
from towline.serve.protocols.grpc.contract import Call, Method, Stream
from towline.serve.protocols.grpc.lifting import Lifted
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import OPEN_INFERENCE
from towline.serve.protocols.openinference import describe_model, describe_server, find
from towline.serve.protocols.openinference_request import codec_for

PROTOCOL = "openinference-grpc"
SERVICE = "inference.GRPCInferenceService"


def methods(plane: DataPlane, limits: Limits) -> dict[str, Method]:
    """Every method by its path."""
    api = _Api(plane, limits)
    at_once = {
        "ServerLive": api.live,
        "ServerReady": api.ready,
        "ModelReady": api.model_ready,
        "ServerMetadata": api.server,
        "ModelMetadata": api.model,
    }
    found = {name: answering(f"inference.{name}Request", OPEN_INFERENCE, handle) for name, handle in at_once.items()}
    found["ModelInfer"] = inferring(OPEN_INFERENCE, plane, PROTOCOL, api.infer)
    return {f"/{SERVICE}/{name}": method for name, method in found.items()}


def streams(plane: DataPlane, limits: Limits) -> dict[str, Stream]:
    """Every method that streams by its path."""
    return {f"/{SERVICE}/ModelStreamInfer": openinference_stream.stream(plane, PROTOCOL, _Api(plane, limits).work)}


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    def live(self, request: Any) -> Any:
        return MESSAGES["inference.ServerLiveResponse"](live=True)

    def ready(self, request: Any) -> Any:
        return MESSAGES["inference.ServerReadyResponse"](ready=self._plane.is_ready())

    def model_ready(self, request: Any) -> Any:
        answer = MESSAGES["inference.ModelReadyResponse"]
        try:
            find(self._plane, request.name, request.version or None)
        except Unavailable:
            return answer(ready=False)
        return answer(ready=True)

    def server(self, request: Any) -> Any:
        return MESSAGES["inference.ServerMetadataResponse"](**describe_server())

    def model(self, request: Any) -> Any:
        served = find(self._plane, request.name, request.version or None)
        return MESSAGES["inference.ModelMetadataResponse"](**describe_model(self._plane, served))

    def infer(self, raw: bytes, call: Call) -> Work:
        return self.work(*openinference_codec.read(raw), call)

    def work(self, request: Any, lifted: Lifted, call: Call) -> Work:
        served = find(self._plane, request.model_name, request.model_version or None)
        codec = codec_for(served, self._limits)
        asked, as_raw = openinference_codec.decode(request, lifted, codec, self._limits, call.deadline, call.received_s)
        labels = served.labels
        return Work(served, asked.request, lambda response: openinference_codec.encode(response, asked, labels, as_raw=as_raw))
