"""`tensorflow.serving.PredictionService` and `ModelService`: predict, metadata and status with TF Serving's codes and texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from towline.core import dtypes
from towline.core.errors import InvalidRequest
from towline.core.manifest import TensorSpec
from towline.serve.codecs.check import Limits
from towline.serve.contract import Control, DataPlane
from towline.serve.protocols.errors import printable
from towline.serve.protocols.grpc import tfserving_examples, tfserving_reload
from towline.serve.protocols.grpc.calls import Work, answering, inferring
from towline.serve.protocols.grpc.contract import Call, Method
from towline.serve.protocols.grpc.descriptors_tf import TENSORFLOW, TF_SERVING
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import TF_SERVING as STATUSES
from towline.serve.protocols.grpc.tfserving_codec import asked, codec_for, read, spec_of
from towline.serve.protocols.tfserving import PREDICT_METHOD, find, find_statuses

PROTOCOL = "tfserving-grpc"
_STATES = TF_SERVING.enums["ModelVersionStatus.State"]
_UNKNOWN_ERROR = 2
_SIGNATURES = "signature_def"


def methods(plane: DataPlane, limits: Limits, control: Control | None = None) -> dict[str, Method]:
    """Every method of both services by its path."""
    api = _Api(plane, limits)
    predict = inferring(STATUSES, plane, PROTOCOL, api.predict)
    prediction = {
        "Predict": predict,
        "GetModelMetadata": _answering("GetModelMetadataRequest", api.metadata),
        **tfserving_examples.methods(plane, limits, PROTOCOL),
    }
    model = {
        "GetModelStatus": _answering("GetModelStatusRequest", api.status),
        "HandleReloadConfigRequest": tfserving_reload.method(control),
    }
    services = {"PredictionService": prediction, "ModelService": model}
    return {f"/tensorflow.serving.{service}/{name}": method for service, found in services.items() for name, method in found.items()}


def _answering(request: str, handle: Callable[[Any], Any]) -> Method:
    return answering(f"tensorflow.serving.{request}", STATUSES, handle)


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    def predict(self, raw: bytes, call: Call) -> Work:
        request, lifted = read(raw)
        spec = request.model_spec
        served = find(self._plane, *asked(request))
        codec = codec_for(served, self._limits, spec.signature_name)
        decoded = codec.decode(request.inputs, lifted, request.output_filter, call.deadline)
        name = spec.signature_name
        return Work(served, decoded, lambda response: codec.encode(response, name))

    def metadata(self, request: Any) -> Any:
        if not request.metadata_field:
            raise InvalidRequest("GetModelMetadataRequest must specify at least one metadata_field", field="metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise InvalidRequest(f"Metadata field {printable(field)} is not supported", field="metadata_field")
        served = find(self._plane, *asked(request))
        signatures = MESSAGES["tensorflow.serving.SignatureDefMap"]()
        for name, signature in served.manifest.signatures.items():
            into = signatures.signature_def[name]
            into.method_name = PREDICT_METHOD
            for spec in signature.inputs:
                _describe(spec, into.inputs[spec.name])
            for spec in signature.outputs:
                _describe(spec, into.outputs[spec.name])
        answer = MESSAGES["tensorflow.serving.GetModelMetadataResponse"](model_spec=spec_of(served.name, served.number))
        answer.metadata[_SIGNATURES].Pack(signatures)
        return answer

    def status(self, request: Any) -> Any:
        answer = MESSAGES["tensorflow.serving.GetModelStatusResponse"]()
        for status in find_statuses(self._plane, *asked(request)):
            # Version, state, and OK (0) or UNKNOWN (2) with the reason.
            answer.model_version_status.add(
                version=status.number,
                state=_STATES[status.state],
                status={"error_code": _UNKNOWN_ERROR if status.error else 0, "error_message": status.error},
            )
        return answer


def _describe(spec: TensorSpec, info: Any) -> None:
    """Fill a TensorInfo. A dim that varies is -1."""
    info.name = spec.name
    info.dtype = TENSORFLOW.enums["DataType"][dtypes.BY_NAME[spec.dtype].tf]
    info.tensor_shape.unknown_rank = spec.shape is None
    for dim in spec.shape or ():
        info.tensor_shape.dim.add(size=dim if isinstance(dim, int) else -1)
