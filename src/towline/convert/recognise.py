"""Tell what a foreign source is, by its first bytes or by what its folder holds, and which importer reads it. Nothing is loaded."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from towline.convert.identify import head_of, identify

_CHECKPOINT = re.compile(r"(.+)\.(?:meta|index|data-\d{5}-of-\d{5})")


@dataclass(frozen=True)
class Recognised:
    """`kind` is what an importer finds in its Task, `what` says it to people: "a TorchScript model".

    `path` is the file or folder that is copied whole; `files` are the ones of it that belong to the source, all when it is empty;
    `entry` is what the importer is given, relative to the copy.
    """

    kind: str
    importer: str
    what: str
    path: Path
    files: tuple[str, ...] = ()
    entry: str = ""


# By the code of convert/identify.py.
_BY_CODE = {
    "TORCHSCRIPT_MODEL": ("torchscript", "torch"),
    "TORCH_EXPORT": ("torch_export", "torch"),
    "STATE_DICT": ("state_dict", "torch"),
    "TORCH_PICKLE": ("torch_module", "torch"),
    "SAFETENSORS_WEIGHTS": ("safetensors", "torch"),
    "KERAS_MODEL": ("keras", "tensorflow"),
    "HDF5_FILE": ("keras_h5", "tensorflow"),
    "SAVED_MODEL": ("saved_model", "tensorflow"),
    "TENSORFLOW_GRAPH": ("frozen_graph", "tensorflow"),
    "TFLITE_MODEL": ("tflite", "tflite"),
    "SKLEARN_PICKLE": ("sklearn", "tabular"),
    "PICKLE": ("pickle", "tabular"),
    "COMPRESSED_PICKLE": ("pickle", "tabular"),
    "LIGHTGBM_MODEL": ("lightgbm", "tabular"),
}


def recognise(path: Path) -> Recognised | None:
    """What `path` is, or None for what may be ONNX or is no model at all: those are the business of convert/files.py."""
    if path.is_dir():
        return _folder(path)
    checkpoint = _CHECKPOINT.fullmatch(path.name)
    if checkpoint:
        return _checkpoint(path.parent, checkpoint[1])
    if not path.exists():
        return _checkpoint(path.parent, path.name) if path.parent.is_dir() else None
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            foreign = identify(head_of(file), path.stat().st_size)
    except OSError:
        # Whoever reads it next says why it cannot be read.
        return None
    if foreign is None or foreign.code not in _BY_CODE:
        return None
    kind, importer = _BY_CODE[foreign.code]
    if kind == "saved_model":
        return Recognised(kind, importer, "a TensorFlow SavedModel", path.absolute().parent)
    return Recognised(kind, importer, foreign.what.partition(":")[0].partition(",")[0], path, entry=path.name)


def _folder(folder: Path) -> Recognised | None:
    names = set(os.listdir(folder))
    if "saved_model.pb" in names:
        return Recognised("saved_model", "tensorflow", "a TensorFlow SavedModel", folder)
    versions = sorted((int(name) for name in names if name.isdecimal() and (folder / name / "saved_model.pb").is_file()), reverse=True)
    if versions:
        return Recognised("saved_model", "tensorflow", f"a TensorFlow SavedModel, version {versions[0]}", folder / str(versions[0]))
    prefixes = sorted({found[1] for name in names if (found := _CHECKPOINT.fullmatch(name))})
    # Of several steps of one training the last is meant.
    return _checkpoint(folder, max(prefixes, key=_step)) if prefixes else None


def _step(prefix: str) -> tuple[int, str]:
    number = re.search(r"(\d+)$", prefix)
    return int(number[1]) if number else -1, prefix


def _checkpoint(folder: Path, prefix: str) -> Recognised | None:
    files = tuple(sorted(name for name in os.listdir(folder) if (found := _CHECKPOINT.fullmatch(name)) and found[1] == prefix))
    if not any(name.endswith(".index") for name in files):
        return None
    kind = "tf1_checkpoint" if f"{prefix}.meta" in files else "tf2_checkpoint"
    return Recognised(kind, "tensorflow", "a TensorFlow checkpoint", folder, files=files, entry=prefix)
