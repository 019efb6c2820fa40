"""Read inputs from files people have: JSON, .npy, .npz. Never a pickle."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from towline.app.sources import check_file
from towline.core.errors import UsageError

MAX_INPUT_BYTES = 1 << 30


def read_inputs(source: str) -> Any:
    """An array or nested list, or a dict of them by name. `-` reads JSON from stdin. Raises UsageError."""
    if source == "-":
        return _json(sys.stdin.buffer.read(MAX_INPUT_BYTES + 1), "stdin")
    path = Path(source)
    check_file(path, "an input file")
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".npz":
            return _npz(path)
        with path.open("rb") as file:
            return _json(file.read(MAX_INPUT_BYTES + 1), str(path))
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0][:120]}",
            hint="Write it with numpy.save or numpy.savez, without Python objects.",
        ) from error


def _npz(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        size_bytes = sum(member.file_size for member in archive.infolist())
    if size_bytes > MAX_INPUT_BYTES:
        raise UsageError(f"{path} unpacks to more than {MAX_INPUT_BYTES >> 20} MiB.", hint="Send it in several parts.")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _json(raw: bytes, name: str) -> Any:
    if len(raw) > MAX_INPUT_BYTES:
        raise UsageError(f"{name} is larger than {MAX_INPUT_BYTES >> 20} MiB.", hint="Use .npy or .npz, or several parts.")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: {error}.", hint='Expected [[1, 2], …], or {"input\'s name": [[1, 2], …]}.') from error
    if found is None or isinstance(found, bool):
        raise UsageError(f"{name} holds {json.dumps(found)}, not an input.", hint="Expected [[1, 2], …].")
    return found
