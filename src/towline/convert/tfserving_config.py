"""Read TF Serving's own files: the models to serve (`--model_config_file`) and how they are batched (`--batching_parameters_file`).

Both are text protos, read by protobuf's own parser against descriptors in a pool of our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from towline.convert.textproto import Table, classes_of, parse_text
from towline.core.deployment import Limits, Policy
from towline.core.errors import UsageError
from towline.core.refs import MODEL_NAME, clip

MAX_FILE_BYTES = 4 << 20
_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"
_TABLE = Table(
    "tensorflow.serving",
    {
        "FileSystemStoragePathSourceConfig": (),
        _POLICY: (
            f"oneof policy_choice: {_POLICY}.Latest latest",
            f"oneof policy_choice: {_POLICY}.All all",
            f"oneof policy_choice: {_POLICY}.Specific specific",
        ),
        f"{_POLICY}.Latest": ("uint32 num_versions",),
        f"{_POLICY}.All": (),
        f"{_POLICY}.Specific": ("repeated int64 versions",),
        "LogCollectorConfig": ("string type", "string filename_prefix"),
        "SamplingConfig": ("double sampling_rate", "int32 attributes"),
        "LoggingConfig": ("LogCollectorConfig log_collector_config", "SamplingConfig sampling_config"),
        "ModelConfig": (
            "string name",
            "string base_path",
            "ModelType model_type",
            "string model_platform",
            f"{_POLICY} model_version_policy",
            "map<string, int64> version_labels",
            "LoggingConfig logging_config",
            "repeated LoggingConfig logging_configs",
        ),
        "ModelConfigList": ("repeated ModelConfig config",),
        "ModelServerConfig": ("ModelConfigList model_config_list", "google.protobuf.Any custom_model_config"),
        "BatchingParameters": (
            "google.protobuf.Int64Value max_batch_size",
            "google.protobuf.Int64Value batch_timeout_micros",
            "google.protobuf.Int64Value max_enqueued_batches",
            "google.protobuf.Int64Value num_batch_threads",
            "google.protobuf.StringValue thread_pool_name",
            "repeated int64 allowed_batch_sizes",
            "bool pad_variable_length_inputs",
            "google.protobuf.BoolValue enable_large_batch_splitting",
            "google.protobuf.Int64Value max_execution_batch_size",
        ),
        "PrometheusConfig": ("bool enable", "string path"),
        "MonitoringConfig": ("PrometheusConfig prometheus_config",),
    },
    {"ModelType": ("MODEL_TYPE_UNSPECIFIED", "TENSORFLOW", "OTHER")},
)
# Of batching, what has no meaning here, and why.
_NOT_NEEDED = {
    "batch_timeout_micros": "natural batching needs no timeout: what waits when a worker is free is the next batch",
    "num_batch_threads": "a thread per core runs batches",
    "thread_pool_name": "there is no such pool",
    "allowed_batch_sizes": "a batch of any size runs",
    "pad_variable_length_inputs": "requests of unlike length share a run wherever import showed that padding changes no answer",
    "enable_large_batch_splitting": "a request is never too large for a batch of its own",
}


@dataclass(frozen=True)
class ConfiguredModel:
    """One model of the list: the versions of `policy` among the numbered folders in `base_path`, an absolute path."""

    name: str
    base_path: str
    policy: Policy = field(default_factory=Policy)
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Listed:
    """One model of the list, or `problem`: why it cannot be served as it is written. `fields` are those that its text sets."""

    name: str
    model: ConfiguredModel | None
    problem: UsageError | None
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Batching:
    """What of the batching parameters is held to, and one sentence for each that is not needed."""

    limits: Limits
    notes: tuple[str, ...]


def read_model_config(text: str) -> tuple[ConfiguredModel, ...]:
    """The models of a `model_config_list`. Raises UsageError, which names the line or the model."""
    models = tuple(_model(one) for one in _configs(text))
    names = [model.name.lower() for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _refused(f"The model '{twice}' is configured twice.", "Give each its own name.")
    return models


def read_each_model(text: str) -> tuple[Listed, ...]:
    """The models of a `model_config_list`, each for itself. Raises UsageError, which names the line, for what is no such list."""
    configs = _configs(text)
    names = [str(config.name).lower() for config in configs]
    return tuple(_listed(config, is_twice=names.count(config.name.lower()) > 1) for config in configs)


def _listed(config: Any, *, is_twice: bool) -> Listed:
    fields = tuple(field.name for field, _ in config.ListFields())
    try:
        if is_twice:
            raise _refused(f"The model '{clip(config.name)}' is configured twice.", "Give each its own name; case makes no difference.")
        return Listed(config.name, _model(config), None, fields)
    except UsageError as problem:
        return Listed(config.name, None, problem, fields)


def _configs(text: str) -> Sequence[Any]:
    config = _parsed("ModelServerConfig", text, "model configuration")
    if config.HasField("custom_model_config"):
        raise _refused("custom_model_config is not served here.", "List models: model_config_list { config { … } }.")
    return tuple(config.model_config_list.config)


def read_metrics_path(text: str) -> str:
    """Where the monitoring configuration has metrics served; nothing when it does not enable them. Raises UsageError."""
    found = _parsed("MonitoringConfig", text, "monitoring configuration").prometheus_config
    return (found.path or "/monitoring/prometheus/metrics") if found.enable else ""


def configured_model(name: str, base_path: str) -> ConfiguredModel:
    """What `--model_name` and `--model_base_path` ask for. Raises UsageError."""
    return ConfiguredModel(_checked_name(name), _checked_path(name, base_path))


def read_batching(text: str) -> Batching:
    """Raises UsageError, which names the line or the parameter."""
    found = _parsed("BatchingParameters", text, "batching parameters")
    given = {name: getattr(value, "value", value) for name, value in ((field.name, value) for field, value in found.ListFields())}
    rows = [_positive(name, given[name]) for name in ("max_batch_size", "max_execution_batch_size") if name in given]
    batches = _positive("max_enqueued_batches", given["max_enqueued_batches"]) if "max_enqueued_batches" in given else 0
    max_batch = min(rows, default=0)
    # TF Serving counts batches that wait; here requests do, each of at least one row.
    waiting = batches * (max_batch or 1)
    notes = tuple(f"{name}: {why}" for name, why in _NOT_NEEDED.items() if given.get(name))
    return Batching(Limits(max_waiting_requests=min(waiting, 1_000_000), max_batch=min(max_batch, 65_536)), notes)


def _model(config: Any) -> ConfiguredModel:
    name = _checked_name(config.name)
    policy, which = config.model_version_policy, config.model_version_policy.WhichOneof("policy_choice")
    numbers = tuple(policy.specific.versions)
    if which == "specific" and (not numbers or min(numbers) < 1):
        raise _refused(f"The specific version policy of '{name}' names no versions from 1.", "Write: specific { versions: 3 }.")
    kinds = {"all": Policy("all"), "specific": Policy("specific", numbers=numbers)}
    chosen = kinds.get(which) or Policy("latest", count=policy.latest.num_versions or 1)
    for label in config.version_labels:
        if not label or "/" in label or ":" in label or len(label) > 128:
            raise _refused(f"'{clip(label)}' labels no version of '{name}'.", "A label has no '/' and no ':'.")
    return ConfiguredModel(name, _checked_path(name, config.base_path), chosen, dict(config.version_labels))


def _checked_name(name: str) -> str:
    if not MODEL_NAME.fullmatch(name) or ".." in name:
        raise _refused(f"{clip(name)!r} cannot name a model.", "A name has 1-128 letters, digits, '.', '_' or '-'.")
    return name


def _checked_path(name: str, base_path: str) -> str:
    if "://" in base_path:
        scheme = base_path.partition("://")[0]
        raise _refused(
            f"The base_path of '{name}' is a {clip(scheme, 16)} address; only folders are read.", "Copy the versions to a folder."
        )
    if not PurePosixPath(base_path).is_absolute():
        raise _refused(f"Expected model {name} to have an absolute path or URI; got base_path() = {clip(base_path)}", "Write it from / on.")
    return str(PurePosixPath(base_path))


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise _refused(f"'{name}' must be at least 1, got {value}.", "Leave it out for the server's own.")
    return int(value)


def _parsed(kind: str, text: str, what: str) -> Any:
    if len(text) > MAX_FILE_BYTES:
        raise _refused(f"The {what} is longer than {MAX_FILE_BYTES >> 20} MiB.", "That is no such file.")
    try:
        return parse_text(_classes()[kind], text)
    except ValueError as error:
        raise _refused(f"The {what} cannot be read: {clip(str(error), 200)}", "It is a text proto, as TF Serving reads it.") from None


def _refused(message: str, hint: str) -> UsageError:
    return UsageError(message, code="BAD_TFSERVING_CONFIG", hint=hint)


@cache
def _classes() -> dict[str, Any]:
    return classes_of(_TABLE, "ModelServerConfig", "BatchingParameters", "MonitoringConfig")
