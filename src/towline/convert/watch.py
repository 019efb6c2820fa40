"""Folders of numbered versions, as TF Serving watches them: one counts once two scans in a row saw it unchanged."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_MAX_FILES = 10_000
MODEL_FILE = "model.onnx"

# Name, size and time of change of every file of one version.
Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Seen:
    """What the scans so far have shown: the last one, and the fingerprints already dealt with (imported or refused)."""

    last: Mapping[int, Fingerprint] = field(default_factory=dict)
    handled: Mapping[int, Fingerprint] = field(default_factory=dict)


def scan(folder: Path) -> dict[int, Fingerprint]:
    """The numbered sub-folders that hold a model file. One that vanishes while it is read is left out."""
    found: dict[int, Fingerprint] = {}
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False) and _NUMBER.fullmatch(entry.name)]
    except OSError:
        return {}
    for entry in entries:
        fingerprint = _fingerprint(Path(entry.path))
        if fingerprint is not None and any(name == MODEL_FILE for name, _, _ in fingerprint):
            found[int(entry.name)] = fingerprint
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


def next_look(seen: Seen, now: Mapping[int, Fingerprint]) -> tuple[Seen, tuple[int, ...]]:
    """The new state, and the numbers to import now: unchanged since the last scan and not dealt with as they are."""
    steady = tuple(sorted(n for n, print_ in now.items() if seen.last.get(n) == print_ and seen.handled.get(n) != print_))
    handled = {n: print_ for n, print_ in seen.handled.items() if n in now} | {n: now[n] for n in steady}
    return Seen(now, handled), steady


def saved_models(folder: Path) -> tuple[int, ...]:
    """The numbered sub-folders that hold a TensorFlow SavedModel and no model file, ascending."""
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False) and _NUMBER.fullmatch(entry.name)]
        names = {int(entry.name): set(os.listdir(entry.path)) for entry in entries}
    except OSError:
        return ()
    return tuple(sorted(number for number, found in names.items() if "saved_model.pb" in found and MODEL_FILE not in found))
