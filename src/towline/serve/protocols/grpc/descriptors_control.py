"""The messages by which Triton's clients look into a server and change what it serves, as Triton numbers them. Pure."""

from __future__ import annotations

from towline.serve.protocols.grpc.descriptors import Table

# Methods of inference.GRPCInferenceService beside those of the Open Inference Protocol; each has a Request and a Response.
METHODS = (
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "TraceSetting",
    "LogSettings",
)
_TYPES = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "STRING"),
    "BF16",
)
_NAMED = ("string name = 1", "string version = 2")
_DURATION = "StatisticDuration"
_TRACE_VALUE = ("repeated string value = 1",)
_LOG_VALUE = (
    "oneof parameter_choice: bool bool_param = 1",
    "oneof parameter_choice: uint32 uint32_param = 2",
    "oneof parameter_choice: string string_param = 3",
)

CONTROL = Table(
    package="inference",
    file="towline/inference_control.proto",
    messages={
        "ModelStatisticsRequest": _NAMED,
        "StatisticDuration": ("uint64 count = 1", "uint64 ns = 2"),
        "InferStatistics": tuple(
            f"{_DURATION} {name} = {number}"
            for number, name in enumerate(
                ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"), 1
            )
        ),
        "InferBatchStatistics": (
            "uint64 batch_size = 1",
            f"{_DURATION} compute_input = 2",
            f"{_DURATION} compute_infer = 3",
            f"{_DURATION} compute_output = 4",
        ),
        "MemoryUsage": ("string type = 1", "int64 id = 2", "uint64 byte_size = 3"),
        # 9 (response_stats) is for models that answer more than once, and is never filled here.
        "ModelStatistics": (
            "string name = 1",
            "string version = 2",
            "uint64 last_inference = 3",
            "uint64 inference_count = 4",
            "uint64 execution_count = 5",
            "InferStatistics inference_stats = 6",
            "repeated InferBatchStatistics batch_stats = 7",
            "repeated MemoryUsage memory_usage = 8",
        ),
        "ModelStatisticsResponse": ("repeated ModelStatistics model_stats = 1",),
        "ModelRepositoryParameter": (
            "oneof parameter_choice: bool bool_param = 1",
            "oneof parameter_choice: int64 int64_param = 2",
            "oneof parameter_choice: string string_param = 3",
            "oneof parameter_choice: bytes bytes_param = 4",
        ),
        "RepositoryIndexRequest": ("string repository_name = 1", "bool ready = 2"),
        "RepositoryIndexResponse": ("repeated RepositoryIndexResponse.ModelIndex models = 1",),
        "RepositoryIndexResponse.ModelIndex": (*_NAMED, "string state = 3", "string reason = 4"),
        "RepositoryModelLoadRequest": (
            "string repository_name = 1",
            "string model_name = 2",
            "map<string, ModelRepositoryParameter> parameters = 3",
        ),
        "RepositoryModelLoadResponse": (),
        "RepositoryModelUnloadRequest": (
            "string repository_name = 1",
            "string model_name = 2",
            "map<string, ModelRepositoryParameter> parameters = 3",
        ),
        "RepositoryModelUnloadResponse": (),
        "TraceSettingRequest": ("map<string, TraceSettingRequest.SettingValue> settings = 1", "string model_name = 2"),
        "TraceSettingRequest.SettingValue": _TRACE_VALUE,
        "TraceSettingResponse": ("map<string, TraceSettingResponse.SettingValue> settings = 1",),
        "TraceSettingResponse.SettingValue": _TRACE_VALUE,
        "LogSettingsRequest": ("map<string, LogSettingsRequest.SettingValue> settings = 1",),
        "LogSettingsRequest.SettingValue": _LOG_VALUE,
        "LogSettingsResponse": ("map<string, LogSettingsResponse.SettingValue> settings = 1",),
        "LogSettingsResponse.SettingValue": _LOG_VALUE,
        "ModelConfigRequest": _NAMED,
        "ModelConfigResponse": ("ModelConfig config = 1",),
        # Of model_config.proto what a version here has to tell.
        "ModelConfig": (
            "string name = 1",
            "string platform = 2",
            "ModelVersionPolicy version_policy = 3",
            "int32 max_batch_size = 4",
            "repeated ModelInput input = 5",
            "repeated ModelOutput output = 6",
            "repeated ModelInstanceGroup instance_group = 7",
            "string default_model_filename = 8",
            "oneof scheduling_choice: ModelDynamicBatching dynamic_batching = 11",
            "map<string, ModelParameter> parameters = 14",
            "string backend = 17",
        ),
        "ModelVersionPolicy": ("oneof policy_choice: ModelVersionPolicy.Specific specific = 3",),
        "ModelVersionPolicy.Specific": ("repeated int64 versions = 1",),
        "ModelInput": ("string name = 1", "DataType data_type = 2", "ModelInput.Format format = 3", "repeated int64 dims = 4"),
        "ModelOutput": ("string name = 1", "DataType data_type = 2", "repeated int64 dims = 3", "string label_filename = 4"),
        "ModelInstanceGroup": (
            "string name = 1",
            "int32 count = 2",
            "repeated int32 gpus = 3",
            "ModelInstanceGroup.Kind kind = 4",
            "repeated string profile = 5",
        ),
        "ModelDynamicBatching": ("repeated int32 preferred_batch_size = 1", "uint64 max_queue_delay_microseconds = 2"),
        "ModelParameter": ("string string_value = 1",),
    },
    enums={
        "DataType": {f"TYPE_{name}": number for number, name in enumerate(_TYPES)},
        "ModelInput.Format": {"FORMAT_NONE": 0, "FORMAT_NHWC": 1, "FORMAT_NCHW": 2},
        "ModelInstanceGroup.Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
    },
)
