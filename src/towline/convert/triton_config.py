"""Read a model configuration as Triton's clients send it: what is honoured, what would change answers, what has no meaning here. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from towline.core import dtypes
from towline.core.deployment import Limits, Policy, chosen_numbers
from towline.core.errors import InvalidRequest, Kind
from towline.core.manifest import Manifest, TensorSpec
from towline.core.refs import clip

MAX_CONFIG_BYTES = 1 << 20
_NUMBERS = (1, 10**18 - 1)
_PLATFORMS = ("", "onnxruntime_onnx", "onnxruntime", "onnx")
_MODEL_FILE = "model.onnx"

# Fields of model_config.proto that say nothing about answers, and why they are not needed here.
_WITHOUT_MEANING = {
    "instance_group": "the server itself decides how many workers a model has",
    "optimization": "the graph was optimised at import",
    "model_warmup": "golden requests warm each version",
    "response_cache": "there is no response cache",
    "metric_tags": "metrics have labels of their own",
    "model_metrics": "metrics have labels of their own",
    "cc_model_filenames": "there is one file for every device",
    "parameters": "the engine has settings of its own",
    "runtime": "the engine is chosen by the version",
}
# Fields that change what a request is answered.
_CHANGING = (
    "sequence_batching",
    "ensemble_scheduling",
    "model_transaction_policy",
    "model_operations",
    "model_repository_agents",
    "batch_input",
    "batch_output",
)
_CHECKED = (
    "name",
    "platform",
    "backend",
    "version_policy",
    "max_batch_size",
    "input",
    "output",
    "dynamic_batching",
    "default_model_filename",
)
_KNOWN = (*_CHECKED, *_CHANGING, *_WITHOUT_MEANING)


@dataclass(frozen=True)
class TritonConfig:
    """`policy` None: the configuration names none. `limits` holds 0 for what it leaves to the server. `notes` tell what was ignored."""

    policy: Policy | None
    limits: Limits
    notes: tuple[str, ...]
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    is_batched: bool

    def check(self, manifest: Manifest) -> None:
        """Whether the tensors it declares are the model's. Raises InvalidRequest."""
        signature = manifest.signature
        for declared, specs, word in ((self.inputs, signature.inputs, "input"), (self.outputs, signature.outputs, "output")):
            by_name = {spec.name: spec for spec in specs}
            for tensor in declared:
                _check_tensor(tensor, by_name, word, is_batched=self.is_batched)
            missing = by_name.keys() - {tensor["name"] for tensor in declared}
            if declared and missing and word == "input":
                raise _refused(f"The configuration leaves out the input '{min(missing)}' of the model.", "config.input")


def read_triton_config(text: str, name: str) -> TritonConfig:
    """Raises InvalidRequest for what is no configuration, or one that this server would not answer by."""
    config = _parsed(text)
    _check_fields(config)
    if config.get("name") not in (None, "", name):
        raise _refused(f"The configuration is of '{clip(str(config['name']))}', not of '{name}'.", "config.name")
    platform = str(config.get("platform") or config.get("backend") or "")
    if platform not in _PLATFORMS:
        raise _refused(
            f"Models of '{clip(platform)}' are not served here; expected onnxruntime.", "config.platform", hint="Export the model to ONNX."
        )
    if config.get("default_model_filename") not in (None, "", _MODEL_FILE):
        raise _refused(
            f"The model's file must be called {_MODEL_FILE}, not '{clip(str(config['default_model_filename']))}'.",
            "config.default_model_filename",
        )
    notes = [f"{field}: {why}" for field, why in _WITHOUT_MEANING.items() if config.get(field)]
    limits = _limits(config, notes)
    tensors = {field: tuple(_objects(config, field)) for field in ("input", "output")}
    return TritonConfig(
        _policy(config), limits, tuple(notes), tensors["input"], tensors["output"], limits.max_batch > 0 and _is_batched(config)
    )


def numbers_for(policy: Policy | None, given: tuple[int, ...]) -> tuple[int, ...]:
    """Which of the versions that a client sends it wants served; Triton's default is the latest one."""
    chosen = chosen_numbers(policy or Policy("latest"), given, {})
    if not chosen:
        raise _refused("The configuration's version_policy chooses none of the versions that were sent.", "config.version_policy")
    return chosen


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > MAX_CONFIG_BYTES:
        raise _refused(f"The configuration is longer than {MAX_CONFIG_BYTES} characters.", "config", kind=Kind.TOO_LARGE)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _refused("The configuration is no JSON.", "config", hint='Send a JSON object, such as {"max_batch_size": 8}.') from None
    if not isinstance(found, dict):
        raise _refused("The configuration must be a JSON object.", "config")
    return {_snake(key): value for key, value in found.items()}


def _snake(key: str) -> str:
    """protobuf's JSON writes maxBatchSize as well."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in key)


def _check_fields(config: Mapping[str, Any]) -> None:
    for field, value in config.items():
        if field not in _KNOWN:
            near = difflib.get_close_matches(field, _KNOWN, n=1)
            raise _refused(
                f"'{clip(field)}' is no field of a model configuration.", "config", hint=f"Did you mean '{near[0]}'?" if near else ""
            )
        if field in _CHANGING and value:
            raise _refused(f"'{field}' would change what requests are answered; this server does not serve it.", f"config.{field}")


def _policy(config: Mapping[str, Any]) -> Policy | None:
    policy = _object(config, "version_policy")
    if not policy:
        return None
    if len(policy) != 1 or not policy.keys() <= {"latest", "all", "specific"}:
        raise _refused("The version_policy must be one of latest, all and specific.", "config.version_policy")
    kind, inner = next(iter(policy.items()))
    inner = inner if isinstance(inner, dict) else {}
    if kind == "all":
        return Policy("all")
    if kind == "latest":
        count = inner.get("num_versions", inner.get("numVersions", 1))
        return Policy("latest", count=_whole(count, "config.version_policy.latest.num_versions", 1, 10_000))
    numbers = inner.get("versions") or []
    if not isinstance(numbers, list) or not numbers:
        raise _refused("A specific version_policy names versions.", "config.version_policy.specific.versions")
    return Policy("specific", numbers=tuple(_whole(number, "config.version_policy.specific.versions", *_NUMBERS) for number in numbers))


def _limits(config: Mapping[str, Any], notes: list[str]) -> Limits:
    max_batch = _whole(config.get("max_batch_size", 0), "config.max_batch_size", 0, 65_536)
    batching = {_snake(key): value for key, value in _object(config, "dynamic_batching").items()}
    for field, value in batching.items():
        if value and field in _BATCHING_NOTES:
            notes.append(f"dynamic_batching.{field}: {_BATCHING_NOTES[field]}")
        elif field not in ("default_queue_policy", "preserve_ordering", *_BATCHING_NOTES):
            raise _refused(f"'{clip(field)}' is no field of dynamic_batching.", "config.dynamic_batching")
    queue = {_snake(key): value for key, value in _object(batching, "default_queue_policy").items()}
    size = _whole(queue.get("max_queue_size", 0), "config.dynamic_batching.default_queue_policy.max_queue_size", 0, 1_000_000)
    timeout_us = _whole(
        queue.get("default_timeout_microseconds", 0),
        "config.dynamic_batching.default_queue_policy.default_timeout_microseconds",
        0,
        86_400_000_000,
    )
    if timeout_us:
        notes.append("default_timeout_microseconds: counts until the answer, and not only in the queue")
    # Triton's 0 is a model without a batch dimension, which is never merged with another request.
    return Limits(max_waiting_requests=size, timeout_s=timeout_us / 1e6, max_batch=max_batch or int("max_batch_size" in config))


def _is_batched(config: Mapping[str, Any]) -> bool:
    return bool(config.get("max_batch_size"))


_BATCHING_NOTES: Mapping[str, str] = {
    "max_queue_delay_microseconds": "batches form without waiting",
    "preferred_batch_size": "whatever waits is the next batch",
    "priority_levels": "a request's own priority counts",
    "default_priority_level": "a request's own priority counts",
    "priority_queue_policy": "a request's own priority counts",
}


def _check_tensor(tensor: Mapping[str, Any], specs: Mapping[str, TensorSpec], word: str, *, is_batched: bool) -> None:
    name = tensor.get("name")
    spec = specs.get(name) if isinstance(name, str) else None
    field = f"config.{word}"
    if spec is None:
        raise _refused(f"The model has no {word} '{clip(str(name))}'; it has {', '.join(specs)}.", field)
    expected = dtypes.BY_NAME[spec.dtype].v2
    kind = str(tensor.get("data_type", tensor.get("dataType", "")))
    if kind.removeprefix("TYPE_").replace("STRING", "BYTES") != expected:
        raise _refused(f"The model's {word} '{spec.name}' is {expected}, not '{clip(kind)}'.", field)
    if tensor.get("reshape"):
        raise _refused(f"A reshape of '{spec.name}' would change what requests are answered.", field)
    dims = tensor.get("dims", [])
    if not isinstance(dims, list) or not _fits(dims, spec, is_batched=is_batched):
        shape = "any" if spec.shape is None else list(spec.shape)
        raise _refused(f"The dims of '{spec.name}' do not fit its shape {shape}.", field)


def _fits(dims: list[Any], spec: TensorSpec, *, is_batched: bool) -> bool:
    if spec.shape is None:
        return True
    shape = spec.shape[1:] if is_batched else spec.shape
    # protobuf's JSON writes an int64 as text.
    return len(dims) == len(shape) and all(
        isinstance(own, str) or str(dim) in (str(own), "-1") for dim, own in zip(dims, shape, strict=True)
    )


def _object(config: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = config.get(field) or {}
    if not isinstance(value, dict):
        raise _refused(f"'{field}' must be an object.", f"config.{field}")
    return value


def _objects(config: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    value = config.get(field) or []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _refused(f"'{field}' must be a list of objects.", f"config.{field}")
    return value


def _whole(value: Any, field: str, low: int, high: int) -> int:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1
    if not low <= number <= high:
        raise _refused(f"'{field}' must be a whole number from {low} to {high}.", field)
    return number


def _refused(message: str, field: str, *, hint: str = "", kind: Kind | None = None) -> InvalidRequest:
    return InvalidRequest(message, code="BAD_CONFIG", field=field, hint=hint, kind=kind)
