"""Read a config.pbtxt as Triton does: every field of its ModelConfig is known, anything else is refused with its line."""

from __future__ import annotations

from functools import cache
from typing import Any

from towline.convert.migrate.plan import bad
from towline.convert.textproto import Table, as_mapping, classes_of, parse_text
from towline.core.refs import clip

MAX_BYTES = 1 << 20
_CUDA, _SEQUENCE = "ModelOptimizationPolicy.Cuda.GraphSpec", "ModelSequenceBatching"
_TABLE = Table(
    "inference",
    {
        "ModelRateLimiter": ("repeated ModelRateLimiter.Resource resources", "uint32 priority"),
        "ModelRateLimiter.Resource": ("string name", "bool global", "uint32 count"),
        "ModelInstanceGroup": (
            "string name",
            "ModelInstanceGroup.Kind kind",
            "int32 count",
            "ModelRateLimiter rate_limiter",
            "repeated int32 gpus",
            "repeated ModelInstanceGroup.SecondaryDevice secondary_devices",
            "repeated string profile",
            "bool passive",
            "string host_policy",
        ),
        "ModelInstanceGroup.SecondaryDevice": (
            "ModelInstanceGroup.SecondaryDevice.SecondaryDeviceKind kind",
            "int64 device_id",
        ),
        "ModelTensorReshape": ("repeated int64 shape",),
        "ModelInput": (
            "string name",
            "DataType data_type",
            "ModelInput.Format format",
            "repeated int64 dims",
            "ModelTensorReshape reshape",
            "bool is_shape_tensor",
            "bool allow_ragged_batch",
            "bool optional",
            "bool is_non_linear_format_io",
        ),
        "ModelOutput": (
            "string name",
            "DataType data_type",
            "repeated int64 dims",
            "ModelTensorReshape reshape",
            "string label_filename",
            "bool is_shape_tensor",
            "bool is_non_linear_format_io",
        ),
        "BatchInput": ("BatchInput.Kind kind", "repeated string target_name", "DataType data_type", "repeated string source_input"),
        "BatchOutput": ("repeated string target_name", "BatchOutput.Kind kind", "repeated string source_input"),
        "ModelVersionPolicy": (
            "oneof policy_choice: ModelVersionPolicy.Latest latest",
            "oneof policy_choice: ModelVersionPolicy.All all",
            "oneof policy_choice: ModelVersionPolicy.Specific specific",
        ),
        "ModelVersionPolicy.Latest": ("uint32 num_versions",),
        "ModelVersionPolicy.All": (),
        "ModelVersionPolicy.Specific": ("repeated int64 versions",),
        "ModelOptimizationPolicy": (
            "ModelOptimizationPolicy.Graph graph",
            "ModelOptimizationPolicy.ModelPriority priority",
            "ModelOptimizationPolicy.Cuda cuda",
            "ModelOptimizationPolicy.ExecutionAccelerators execution_accelerators",
            "ModelOptimizationPolicy.PinnedMemoryBuffer input_pinned_memory",
            "ModelOptimizationPolicy.PinnedMemoryBuffer output_pinned_memory",
            "uint32 gather_kernel_buffer_threshold",
            "bool eager_batching",
        ),
        "ModelOptimizationPolicy.Graph": ("int32 level",),
        "ModelOptimizationPolicy.Cuda": (
            "bool graphs",
            "bool busy_wait_events",
            f"repeated {_CUDA} graph_spec",
            "bool output_copy_stream",
        ),
        _CUDA: ("int32 batch_size", f"map<string, {_CUDA}.Shape> input", f"{_CUDA}.LowerBound graph_lower_bound"),
        f"{_CUDA}.Shape": ("repeated int64 dim",),
        f"{_CUDA}.LowerBound": ("int32 batch_size", f"map<string, {_CUDA}.Shape> input"),
        "ModelOptimizationPolicy.ExecutionAccelerators": (
            "repeated ModelOptimizationPolicy.ExecutionAccelerators.Accelerator gpu_execution_accelerator",
            "repeated ModelOptimizationPolicy.ExecutionAccelerators.Accelerator cpu_execution_accelerator",
        ),
        "ModelOptimizationPolicy.ExecutionAccelerators.Accelerator": ("string name", "map<string, string> parameters"),
        "ModelOptimizationPolicy.PinnedMemoryBuffer": ("bool enable",),
        "ModelQueuePolicy": (
            "ModelQueuePolicy.TimeoutAction timeout_action",
            "uint64 default_timeout_microseconds",
            "bool allow_timeout_override",
            "uint32 max_queue_size",
        ),
        "ModelDynamicBatching": (
            "repeated int32 preferred_batch_size",
            "uint64 max_queue_delay_microseconds",
            "bool preserve_ordering",
            "uint64 priority_levels",
            "uint64 default_priority_level",
            "ModelQueuePolicy default_queue_policy",
            "map<uint64, ModelQueuePolicy> priority_queue_policy",
        ),
        _SEQUENCE: (
            f"oneof strategy_choice: {_SEQUENCE}.StrategyDirect direct",
            f"oneof strategy_choice: {_SEQUENCE}.StrategyOldest oldest",
            "uint64 max_sequence_idle_microseconds",
            f"repeated {_SEQUENCE}.ControlInput control_input",
            f"repeated {_SEQUENCE}.State state",
            "bool iterative_sequence",
        ),
        f"{_SEQUENCE}.Control": (
            f"{_SEQUENCE}.Control.Kind kind",
            "repeated int32 int32_false_true",
            "repeated float fp32_false_true",
            "repeated bool bool_false_true",
            "DataType data_type",
        ),
        f"{_SEQUENCE}.ControlInput": ("string name", f"repeated {_SEQUENCE}.Control control"),
        f"{_SEQUENCE}.InitialState": (
            "DataType data_type",
            "repeated int64 dims",
            "oneof state_data: bool zero_data",
            "oneof state_data: string data_file",
            "string name",
        ),
        f"{_SEQUENCE}.State": (
            "string input_name",
            "string output_name",
            "DataType data_type",
            "repeated int64 dims",
            f"repeated {_SEQUENCE}.InitialState initial_state",
            "bool use_same_buffer_for_input_output",
            "bool use_growable_memory",
        ),
        f"{_SEQUENCE}.StrategyDirect": ("uint64 max_queue_delay_microseconds", "float minimum_slot_utilization"),
        f"{_SEQUENCE}.StrategyOldest": (
            "int32 max_candidate_sequences",
            "repeated int32 preferred_batch_size",
            "uint64 max_queue_delay_microseconds",
            "bool preserve_ordering",
        ),
        "ModelEnsembling": ("repeated ModelEnsembling.Step step", "uint32 max_inflight_requests"),
        "ModelEnsembling.Step": (
            "string model_name",
            "int64 model_version",
            "map<string, string> input_map",
            "map<string, string> output_map",
            "string model_namespace",
        ),
        "ModelParameter": ("string string_value",),
        "ModelWarmup": ("string name", "uint32 batch_size", "map<string, ModelWarmup.Input> inputs", "uint32 count"),
        "ModelWarmup.Input": (
            "DataType data_type",
            "repeated int64 dims",
            "oneof input_data_type: bool zero_data",
            "oneof input_data_type: bool random_data",
            "oneof input_data_type: string input_data_file",
        ),
        "ModelOperations": ("repeated string op_library_filename",),
        "ModelTransactionPolicy": ("bool decoupled",),
        "ModelRepositoryAgents": ("repeated ModelRepositoryAgents.Agent agents",),
        "ModelRepositoryAgents.Agent": ("string name", "map<string, string> parameters"),
        "ModelResponseCache": ("bool enable",),
        "ModelMetrics": ("repeated ModelMetrics.MetricControl metric_control",),
        "ModelMetrics.MetricControl": (
            "ModelMetrics.MetricControl.MetricIdentifier metric_identifier",
            "oneof metric_options: ModelMetrics.MetricControl.HistogramOptions histogram_options",
        ),
        "ModelMetrics.MetricControl.MetricIdentifier": ("string family",),
        "ModelMetrics.MetricControl.HistogramOptions": ("repeated double buckets",),
        "ModelConfig": (
            "string name",
            "string platform",
            "string backend",
            "string runtime",
            "ModelVersionPolicy version_policy",
            # In a oneof of its own a field tells whether it was set: 0 is a model that is never merged.
            "oneof set: int32 max_batch_size",
            "repeated ModelInput input",
            "repeated ModelOutput output",
            "repeated BatchInput batch_input",
            "repeated BatchOutput batch_output",
            "ModelOptimizationPolicy optimization",
            "oneof scheduling_choice: ModelDynamicBatching dynamic_batching",
            f"oneof scheduling_choice: {_SEQUENCE} sequence_batching",
            "oneof scheduling_choice: ModelEnsembling ensemble_scheduling",
            "repeated ModelInstanceGroup instance_group",
            "string default_model_filename",
            "map<string, string> cc_model_filenames",
            "map<string, string> metric_tags",
            "map<string, ModelParameter> parameters",
            "repeated ModelWarmup model_warmup",
            "ModelOperations model_operations",
            "ModelTransactionPolicy model_transaction_policy",
            "ModelRepositoryAgents model_repository_agents",
            "ModelResponseCache response_cache",
            "ModelMetrics model_metrics",
        ),
    },
    {
        "DataType": (
            *("TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64"),
            *("TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64"),
            *("TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16"),
        ),
        "ModelInstanceGroup.Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
        "ModelInstanceGroup.SecondaryDevice.SecondaryDeviceKind": ("KIND_NVDLA",),
        "ModelInput.Format": ("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"),
        "BatchInput.Kind": (
            "BATCH_ELEMENT_COUNT",
            "BATCH_ACCUMULATED_ELEMENT_COUNT",
            "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
            "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
            "BATCH_ITEM_SHAPE",
            "BATCH_ITEM_SHAPE_FLATTEN",
        ),
        "BatchOutput.Kind": ("BATCH_SCATTER_WITH_INPUT_SHAPE",),
        "ModelOptimizationPolicy.ModelPriority": ("PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"),
        "ModelQueuePolicy.TimeoutAction": ("REJECT", "DELAY"),
        f"{_SEQUENCE}.Control.Kind": (
            "CONTROL_SEQUENCE_START",
            "CONTROL_SEQUENCE_READY",
            "CONTROL_SEQUENCE_END",
            "CONTROL_SEQUENCE_CORRID",
        ),
    },
)


def read_config_text(text: str, label: str) -> dict[str, Any]:
    """The fields that are set, as Triton's JSON has them. Raises UsageError, which names line and column."""
    if len(text) > MAX_BYTES:
        raise bad(f"{label} is longer than {MAX_BYTES >> 20} MiB.", "That is no such file.")
    try:
        return as_mapping(parse_text(_model_config(), text))
    except ValueError as error:
        raise bad(f"{label} cannot be read: {clip(str(error), 200)}", "It is the text of a ModelConfig, as Triton reads it.") from None


@cache
def _model_config() -> Any:
    return classes_of(_TABLE, "ModelConfig")["ModelConfig"]
