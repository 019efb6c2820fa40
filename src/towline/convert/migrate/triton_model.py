"""One model of a Triton repository: which backend ran it, and what of its configuration holds here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from towline.convert.migrate.folders import numbered
from towline.convert.migrate.plan import PlannedModel, PlannedVersion, bad, refused_model
from towline.convert.migrate.triton_text import MAX_BYTES, read_config_text
from towline.convert.triton_config import TritonConfig, read_triton_config
from towline.core import dtypes
from towline.core.deployment import Policy, chosen_numbers
from towline.core.errors import UsageError
from towline.core.plain_file import read_plain_file
from towline.core.refs import check_model_name, clip

_CONFIG = "config.pbtxt"
_ONNX, _SAVED_MODEL, _GRAPH, _TORCH = "onnxruntime", "savedmodel", "graphdef", "torchscript"
# Triton's words for what we import, and the file that holds the model unless the configuration says otherwise.
_BACKENDS = {
    "onnxruntime": _ONNX,
    "onnxruntime_onnx": _ONNX,
    "tensorflow_savedmodel": _SAVED_MODEL,
    "tensorflow": _SAVED_MODEL,
    "tensorflow_graphdef": _GRAPH,
    "pytorch": _TORCH,
    "pytorch_libtorch": _TORCH,
}
_FILES = {_ONNX: "model.onnx", _SAVED_MODEL: "model.savedmodel", _GRAPH: "model.graphdef", _TORCH: "model.pt"}
# The others, and what to do about a model of theirs.
_OTHERS = {
    "python": "Write it as a handler, a class with predict(): towline serve handler.py:Class. The how-to 'handler' shows one.",
    "ensemble": "Join the steps in a handler that calls them, or fuse processing into the graph: towline import --processing FILE --fuse.",
    "tensorrt": "A TensorRT plan runs on the GPU it was made for alone: import the ONNX file that it was built from.",
    "tensorrt_plan": "A TensorRT plan runs on the GPU it was made for alone: import the ONNX file that it was built from.",
    "openvino": "Import the ONNX file that it was converted from.",
    "fil": "Import the scikit-learn or LightGBM file itself.",
    "dali": "Declare the steps instead: towline import --processing FILE.",
    "vllm": "Language models are not served here: keep that model where it is.",
    "tensorrtllm": "Language models are not served here: keep that model where it is.",
}
_BY_FILE = {"model.plan": "tensorrt", "model.py": "python", "model.xml": "openvino"}
_INDEXED = re.compile(r".*__(\d{1,4})")


def planned_model(folder: Path, config_name: str = "") -> PlannedModel:
    """Raises UsageError and InvalidRequest for a configuration that cannot be read, or by which this server would not answer."""
    name = check_model_name(folder.name)
    config = _config(folder, config_name)
    present = {number: path for number, path in numbered(folder).items() if number and not path.name.startswith("0")}
    backend = _backend(config, list(present.values()))
    kind = _BACKENDS.get(backend)
    if kind is None:
        hint = _OTHERS.get(backend, "Export it to ONNX, or write it as a handler.")
        return refused_model(name, f"Its backend is '{clip(backend) or 'unknown'}', which is not imported.", hint)
    file = str(config.get("default_model_filename") or _FILES[kind])
    if "/" in file or file in ("", ".", ".."):
        raise bad(f"default_model_filename {clip(file)!r} is no file's name.")
    if "sequence_batching" in config:
        return refused_model(name, "Its sequence_batching keeps state between requests.", "Make the state inputs and outputs of the model.")
    read = read_triton_config(json.dumps(_understood(config)), name)
    wanted = chosen_numbers(read.policy or Policy("latest"), tuple(present), {})
    if not wanted:
        return refused_model(name, f"{folder} has no version that its version_policy chooses.", "Versions are folders named 1, 2, ….")
    labels, label_notes = _labels(folder, config)
    given = {**labels, **_given(kind, config, is_batched=read.is_batched)}
    versions = tuple(
        PlannedVersion(number, _model_file(present[number] / file, kind), given=given, old=str(number), check=read) for number in wanted
    )
    notes = (*read.notes, *label_notes, *_notes(config, read))
    return PlannedModel(name, versions, read.policy or Policy("latest"), {}, read.limits, notes)


def _config(folder: Path, config_name: str) -> dict[str, Any]:
    """Of the named variant, where the model has it; empty where there is none, and Triton would have filled it in."""
    if config_name and re.fullmatch(r"[A-Za-z0-9._-]+", config_name):
        named = folder / "configs" / f"{config_name}.pbtxt"
        if named.is_file():
            return _read(named)
    return _read(folder / _CONFIG) if (folder / _CONFIG).exists() else {}


def _read(file: Path) -> dict[str, Any]:
    raw = read_plain_file(file, MAX_BYTES, lambda why: bad(f"{file}: {why}."))
    try:
        return read_config_text(raw.decode(), f"{file.parent.name}/{file.name}")
    except UnicodeDecodeError:
        raise bad(f"{file} is not UTF-8 text.", "It is the text of a ModelConfig, as Triton reads it.") from None


def _backend(config: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """As it is configured, else by the file of a version."""
    named = str(config.get("platform") or config.get("backend") or "")
    if named == "tensorflow":
        file = str(config.get("default_model_filename") or "")
        return "tensorflow_graphdef" if "graphdef" in file or any((folder / "model.graphdef").exists() for folder in folders) else named
    if named or "ensemble_scheduling" in config:
        return named or "ensemble"
    for kind, file in _FILES.items():
        if any((folder / file).exists() for folder in folders):
            return next(word for word, own in _BACKENDS.items() if own == kind)
    return next((backend for file, backend in _BY_FILE.items() if any((folder / file).exists() for folder in folders)), "")


def _understood(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration in the words that a client may send: what says which file and which backend was dealt with."""
    return {name: value for name, value in config.items() if name not in ("platform", "backend", "default_model_filename", "runtime")}


def _model_file(path: Path, kind: str) -> Path:
    """A large ONNX model is a folder with the graph and its weights."""
    return path / path.name if kind == _ONNX and path.is_dir() else path


def _labels(folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    outputs = config.get("output") or []
    named = [output for output in outputs if output.get("label_filename")]
    if not named:
        return {}, ()
    if len(outputs) > 1:
        return {}, ("label_filename: a version has labels for one output, and this model has several",)
    file = folder / str(named[0]["label_filename"])
    # Triton takes a path within the model's folder alone.
    if folder.resolve() not in file.resolve().parents:
        raise bad(f"label_filename {clip(str(named[0]['label_filename']))!r} leads out of the model's folder.")
    return {"labels": str(file)}, ()


def _given(kind: str, config: Mapping[str, Any], *, is_batched: bool) -> dict[str, str]:
    """TorchScript knows neither names nor shapes: its configuration does."""
    inputs = config.get("input") or []
    if kind != _TORCH:
        return {}
    if not inputs:
        raise UsageError("A TorchScript model does not tell its inputs.", code="NO_INPUTS", hint="Write them into its config.pbtxt.")
    given = {
        "input": ",".join(_spec(one, is_batched=is_batched) for one in _ordered(inputs)),
        "inputs": ",".join(str(one.get("name", "")) for one in _ordered(inputs)),
        "outputs": ",".join(str(one.get("name", "")) for one in _ordered(config.get("output") or [])),
    }
    return {word: value for word, value in given.items() if value}


def _ordered(tensors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By the number in their names, where all have one, as Triton binds them to arguments; else as they are written."""
    places = [_INDEXED.fullmatch(str(tensor.get("name", ""))) for tensor in tensors]
    numbers = [int(place[1]) for place in places if place is not None]
    if len(numbers) < len(tensors):
        return list(tensors)
    return [tensor for _, tensor in sorted(zip(numbers, tensors, strict=True), key=lambda pair: pair[0])]


def _spec(tensor: Mapping[str, Any], *, is_batched: bool) -> str:
    kind = str(tensor.get("data_type", "")).removeprefix("TYPE_").replace("STRING", "BYTES")
    dtype = next((name for name, one in dtypes.BY_NAME.items() if one.v2 == kind), "")
    if not dtype or tensor.get("reshape"):
        raise bad(
            f"The input {clip(str(tensor.get('name')))!r} has {'a reshape' if dtype else 'no data_type'} and cannot be told to PyTorch."
        )
    dims = [str(dim) if int(dim) > 0 else f"D{place}" for place, dim in enumerate(tensor.get("dims") or [])]
    return f"{dtype}[{','.join(['N', *dims] if is_batched else dims)}]"


def _notes(config: Mapping[str, Any], read: TritonConfig) -> tuple[str, ...]:
    notes = []
    if "max_batch_size" in config:
        notes.append(f"max_batch_size: max_batch of the deployment ({read.limits.max_batch})")
    if config.get("dynamic_batching") is not None:
        notes.append("dynamic_batching: batches form by themselves, for every model")
    return tuple(notes)
