"""Folders of numbered versions, as TF Serving watches them: one counts once two scans in a row saw it unchanged."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# `00000123` counts as 123, as it does there; ours begin at 1.
_NUMBER = re.compile(r"0*[1-9][0-9]{0,17}")
_MAX_FILES = 10_000
MODEL_FILE = "model.onnx"
# What is imported of a version's folder: the first of these that it holds, or the folder itself where that is a SavedModel's.
_MODEL_FILES = (MODEL_FILE, "saved_model.pb", "saved_model.pbtxt", "model.tflite")

# Name, size and time of change of every file of one version.
Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Found:
    """A version in its folder: what is imported of it, and what tells that it was changed."""

    source: Path
    fingerprint: Fingerprint


def model_in(folder: Path) -> Path | None:
    """What of a version's folder is imported: a file of it or the folder itself; None where it holds no model."""
    for name in _MODEL_FILES:
        if (folder / name).is_file():
            return folder if name.startswith("saved_model") else folder / name
    return None


def scan(folder: Path) -> dict[int, Found]:
    """The numbered sub-folders that hold a model. One that vanishes while it is read is left out."""
    found: dict[int, Found] = {}
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False) and _NUMBER.fullmatch(entry.name)]
    except OSError:
        return {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        fingerprint, source = _fingerprint(Path(entry.path)), model_in(Path(entry.path))
        if fingerprint is not None and source is not None:
            found.setdefault(int(entry.name), Found(source, fingerprint))
    return found


def _fingerprint(folder: Path) -> Fingerprint | None:
    files = []
    try:
        for root, _, names in os.walk(folder, followlinks=False):
            for name in names:
                status = os.lstat(os.path.join(root, name))
                files.append((os.path.relpath(os.path.join(root, name), folder), status.st_size, status.st_mtime_ns))
                if len(files) > _MAX_FILES:
                    return None
    except OSError:
        return None
    return tuple(sorted(files))


def at_rest(before: Mapping[int, Found], now: Mapping[int, Found]) -> dict[int, Found]:
    """What two scans in a row saw alike: nobody is still copying it."""
    return {number: found for number, found in now.items() if before.get(number) == found}
