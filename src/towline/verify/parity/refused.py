"""Keep the input on which a refused conversion differed most, with both answers, for whoever looks for the cause."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np

from towline.verify.parity.compare import Parity

# They are for now, not for the record: the newest few, none of them large.
MOST_FILES = 16
MAX_BYTES = 64 << 20


def keep_worst(parity: Parity, folder: Path, name: str) -> Path | None:
    """Write `NAME-<digest>.npz` into `folder`, which is made, with the arrays request/INPUT, source/OUTPUT and conversion/OUTPUT.

    None when they are more than 64 MiB. The oldest files beyond sixteen go.
    """
    sides = (("request", parity.worst), ("source", parity.worst_reference), ("conversion", parity.worst_candidate))
    arrays = {f"{side}/{key}": _plain(array) for side, answers in sides for key, array in answers.items()}
    if sum(array.nbytes for array in arrays.values()) > MAX_BYTES:
        return None
    raw = io.BytesIO()
    # The names are those of tensors, which need not be those of arguments.
    np.savez_compressed(raw, **arrays)  # type: ignore[arg-type]
    content = raw.getvalue()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = folder / f"{name}-{_digest(arrays)}.npz"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)
    for old in sorted(folder.glob("*.npz"), key=lambda one: one.stat().st_mtime_ns)[:-MOST_FILES]:
        old.unlink(missing_ok=True)
    return path


def _plain(array: np.ndarray) -> np.ndarray:
    """Strings as bytes of fixed width: an array of objects would need pickle."""
    return array.astype(np.bytes_) if array.dtype.kind in "OU" else np.asarray(array)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()[:12]
