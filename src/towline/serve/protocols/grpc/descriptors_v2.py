"""The messages of `inference.GRPCInferenceService`, as the Open Inference Protocol and Triton number them. Pure."""

from __future__ import annotations

from towline.serve.protocols.grpc.descriptors import Table
from towline.serve.protocols.grpc.descriptors_control import CONTROL, METHODS

_PARAMETERS = "map<string, InferParameter> parameters"

OPEN_INFERENCE = Table(
    package="inference",
    file="towline/inference.proto",
    imports=(CONTROL.file,),
    messages={
        "ServerLiveRequest": (),
        "ServerLiveResponse": ("bool live = 1",),
        "ServerReadyRequest": (),
        "ServerReadyResponse": ("bool ready = 1",),
        "ModelReadyRequest": ("string name = 1", "string version = 2"),
        "ModelReadyResponse": ("bool ready = 1",),
        "ServerMetadataRequest": (),
        "ServerMetadataResponse": ("string name = 1", "string version = 2", "repeated string extensions = 3"),
        "ModelMetadataRequest": ("string name = 1", "string version = 2"),
        "ModelMetadataResponse": (
            "string name = 1",
            "repeated string versions = 2",
            "string platform = 3",
            "repeated ModelMetadataResponse.TensorMetadata inputs = 4",
            "repeated ModelMetadataResponse.TensorMetadata outputs = 5",
            "map<string, string> properties = 6",
        ),
        "ModelMetadataResponse.TensorMetadata": ("string name = 1", "string datatype = 2", "repeated int64 shape = 3"),
        # KServe, MLServer and OpenVINO Model Server stop at string_param.
        "InferParameter": (
            "oneof parameter_choice: bool bool_param = 1",
            "oneof parameter_choice: int64 int64_param = 2",
            "oneof parameter_choice: string string_param = 3",
            "oneof parameter_choice: double double_param = 4",
            "oneof parameter_choice: uint64 uint64_param = 5",
        ),
        "InferTensorContents": (
            "repeated bool bool_contents = 1",
            "repeated int32 int_contents = 2",
            "repeated int64 int64_contents = 3",
            "repeated uint32 uint_contents = 4",
            "repeated uint64 uint64_contents = 5",
            "repeated float fp32_contents = 6",
            "repeated double fp64_contents = 7",
            "repeated bytes bytes_contents = 8",
        ),
        "ModelInferRequest": (
            "string model_name = 1",
            "string model_version = 2",
            "string id = 3",
            f"{_PARAMETERS} = 4",
            "repeated ModelInferRequest.InferInputTensor inputs = 5",
            "repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6",
            "repeated bytes raw_input_contents = 7",
        ),
        "ModelInferRequest.InferInputTensor": (
            "string name = 1",
            "string datatype = 2",
            "repeated int64 shape = 3",
            f"{_PARAMETERS} = 4",
            "InferTensorContents contents = 5",
        ),
        "ModelInferRequest.InferRequestedOutputTensor": ("string name = 1", f"{_PARAMETERS} = 2"),
        "ModelInferResponse": (
            "string model_name = 1",
            "string model_version = 2",
            "string id = 3",
            f"{_PARAMETERS} = 4",
            "repeated ModelInferResponse.InferOutputTensor outputs = 5",
            "repeated bytes raw_output_contents = 6",
        ),
        "ModelInferResponse.InferOutputTensor": (
            "string name = 1",
            "string datatype = 2",
            "repeated int64 shape = 3",
            f"{_PARAMETERS} = 4",
            "InferTensorContents contents = 5",
        ),
        # Triton's and OpenVINO Model Server's; MLServer streams ModelInferResponse under the same name.
        "ModelStreamInferResponse": ("string error_message = 1", "ModelInferResponse infer_response = 2"),
    },
    services={
        "GRPCInferenceService": {
            **{
                name: (f"{name}Request", f"{name}Response")
                for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
            },
            **{name: (f"inference.{name}Request", f"inference.{name}Response") for name in METHODS},
            "ModelStreamInfer": ("stream ModelInferRequest", "stream ModelStreamInferResponse"),
        }
    },
)
