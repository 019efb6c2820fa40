"""Read TF Serving's own files: the models to serve (`--model_config_file`) and how they are batched (`--batching_parameters_file`).

Both are text protos, read by protobuf's own parser against descriptors in a pool of our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2  # type: ignore[import-untyped]

from towline.core.deployment import Limits, Policy
from towline.core.errors import UsageError
from towline.core.refs import MODEL_NAME, clip

MAX_FILE_BYTES = 4 << 20
_PACKAGE = "tensorflow.serving"
_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"
# Message -> fields as (name, number, type); a type that ends in * is repeated, one that begins with % is a map of text to it.
_MESSAGES: Mapping[str, Sequence[tuple[str, int, str]]] = {
    "FileSystemStoragePathSourceConfig": (),
    _POLICY: (("latest", 100, f"{_POLICY}.Latest"), ("all", 101, f"{_POLICY}.All"), ("specific", 102, f"{_POLICY}.Specific")),
    f"{_POLICY}.Latest": (("num_versions", 1, "uint32"),),
    f"{_POLICY}.All": (),
    f"{_POLICY}.Specific": (("versions", 1, "int64*"),),
    "LogCollectorConfig": (("type", 1, "string"), ("filename_prefix", 2, "string")),
    "SamplingConfig": (("sampling_rate", 1, "double"), ("attributes", 2, "int32")),
    "LoggingConfig": (("log_collector_config", 1, "LogCollectorConfig"), ("sampling_config", 2, "SamplingConfig")),
    "ModelConfig": (
        ("name", 1, "string"),
        ("base_path", 2, "string"),
        ("model_type", 3, "ModelType"),
        ("model_platform", 4, "string"),
        ("model_version_policy", 7, _POLICY),
        ("version_labels", 8, "%int64"),
        ("logging_config", 6, "LoggingConfig"),
        ("logging_configs", 9, "LoggingConfig*"),
    ),
    "ModelConfigList": (("config", 1, "ModelConfig*"),),
    "ModelServerConfig": (("model_config_list", 1, "ModelConfigList"), ("custom_model_config", 2, ".google.protobuf.Any")),
    "BatchingParameters": (
        ("max_batch_size", 1, ".google.protobuf.Int64Value"),
        ("batch_timeout_micros", 2, ".google.protobuf.Int64Value"),
        ("max_enqueued_batches", 3, ".google.protobuf.Int64Value"),
        ("num_batch_threads", 4, ".google.protobuf.Int64Value"),
        ("thread_pool_name", 5, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, "int64*"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, ".google.protobuf.BoolValue"),
        ("max_execution_batch_size", 9, ".google.protobuf.Int64Value"),
    ),
}
_MODEL_TYPES = {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}
# Of batching, what has no meaning here, and why.
_NOT_NEEDED = {
    "batch_timeout_micros": "natural batching needs no timeout: what waits when a worker is free is the next batch",
    "num_batch_threads": "a thread per core runs batches",
    "thread_pool_name": "there is no such pool",
    "allowed_batch_sizes": "a batch of any size runs",
    "pad_variable_length_inputs": "requests of unlike shapes run in batches of their own",
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
class Batching:
    """What of the batching parameters is held to, and one sentence for each that is not needed."""

    limits: Limits
    notes: tuple[str, ...]


def read_model_config(text: str) -> tuple[ConfiguredModel, ...]:
    """The models of a `model_config_list`. Raises UsageError, which names the line or the model."""
    config = _parsed("ModelServerConfig", text, "model configuration")
    if config.HasField("custom_model_config"):
        raise _refused("custom_model_config is not served here.", "List models: model_config_list { config { … } }.")
    models = tuple(_model(one) for one in config.model_config_list.config)
    names = [model.name.lower() for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _refused(f"The model '{twice}' is configured twice.", "Give each its own name.")
    return models


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
    message = _classes()[kind]()
    try:
        text_format.Parse(text, message)
    except (text_format.ParseError, RecursionError, UnicodeError) as error:
        raise _refused(f"The {what} cannot be read: {clip(str(error), 200)}", "It is a text proto, as TF Serving reads it.") from None
    return message


def _refused(message: str, hint: str) -> UsageError:
    return UsageError(message, code="BAD_TFSERVING_CONFIG", hint=hint)


@cache
def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(_file().SerializeToString())
    roots = ("ModelServerConfig", "BatchingParameters")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in roots}


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="towline/tfserving_files.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/any.proto", "google/protobuf/wrappers.proto"],
    )
    made: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, own = name.rpartition(".")
        made[name] = made[outer].nested_type.add(name=own) if outer else file.message_type.add(name=own)
        for field_name, number, kind in fields:
            _add_field(made[name], name, field_name, number, kind)
    made[_POLICY].oneof_decl.add(name="policy_choice")
    for one in made[_POLICY].field:
        one.oneof_index = 0
    enum = file.enum_type.add(name="ModelType")
    for label, number in _MODEL_TYPES.items():
        enum.value.add(name=label, number=number)
    return file


def _add_field(message: Any, owner: str, name: str, number: int, kind: str) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    new = message.field.add(
        name=name, number=number, label=kinds.LABEL_REPEATED if kind[0] == "%" or kind[-1] == "*" else kinds.LABEL_OPTIONAL
    )
    if kind.startswith("%"):
        entry = message.nested_type.add(name="".join(word.capitalize() for word in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, owner, "key", 1, "string")
        _add_field(entry, owner, "value", 2, kind[1:])
        new.type, new.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{owner}.{entry.name}"
        return
    kind = kind.rstrip("*")
    scalar = getattr(kinds, f"TYPE_{kind.upper()}", None)
    if scalar is not None:
        new.type = scalar
    else:
        # The pool finds out by itself whether a name is a message or an enum.
        new.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"
