"""Write what a descriptor holds into a file that did not exist before, and notice a source that changes meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from towline.core.errors import ImportRefused, Kind

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class CopiedFile:
    """`name` is relative to the staged folder; `digest` is the hex SHA-256 of what was copied."""

    name: str
    size_bytes: int
    digest: str


def copy_descriptor(descriptor: int, target: Path, name: str, label: str, max_bytes: int) -> CopiedFile:
    """Copy what a descriptor holds into a new file, and notice when somebody writes to it meanwhile."""
    before = os.fstat(descriptor)
    if before.st_size > max_bytes:
        raise ImportRefused(
            f"{label} has {before.st_size} bytes; at most {max_bytes} are taken here.",
            code="TOO_LARGE",
            kind=Kind.TOO_LARGE,
            hint="Save the weights of a model beyond 2 GiB as external data: onnx.save(model, FILE, save_as_external_data=True).",
        )
    _check_room(target.parent, before.st_size, label)
    digest = hashlib.sha256()
    size = 0
    try:
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "wb", 0) as file:
            # One byte beyond the size is asked for, so that a file that grows is seen and one without end is not followed.
            while chunk := os.read(descriptor, min(_CHUNK_BYTES, before.st_size + 1 - size)):
                digest.update(chunk)
                _write_all(file.fileno(), chunk)
                size += len(chunk)
                if size > before.st_size:
                    break
    except FileExistsError:
        raise _taken(label) from None
    except OSError as error:
        raise _disk_full(label) if error.errno in (errno.ENOSPC, errno.EDQUOT) else unreadable(label, error) from None
    after = os.fstat(descriptor)
    if size != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ImportRefused(
            f"{label} was written to while it was copied.", code="SOURCE_CHANGED", hint="Import it again once its writer has finished."
        )
    return CopiedFile(name, size, digest.hexdigest())


def make_folders(folder: Path, label: str) -> None:
    """Make the folders that `label` is to lie in."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _taken(label) from None


def _taken(label: str) -> ImportRefused:
    return ImportRefused(
        f"The model names {label} as external data, but Towline gives that name to the model itself.",
        code="EXTERNAL_DATA_NAME",
        hint="Save its external data under another name.",
    )


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _check_room(folder: Path, size_bytes: int, label: str) -> None:
    if shutil.disk_usage(folder).free < size_bytes:
        raise _disk_full(label)


def _disk_full(label: str) -> ImportRefused:
    return ImportRefused(
        f"The disk of the store has no room for {label}.",
        code="DISK_FULL",
        kind=Kind.OUT_OF_MEMORY,
        hint="Free some space, or choose another place with --home.",
    )


def unreadable(label: str, error: OSError) -> ImportRefused:
    """Why a file could not be opened or read, for people."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ImportRefused(f"There is no file {label}.", code="NO_SUCH_FILE", kind=Kind.NOT_FOUND, hint="Check the path.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ImportRefused(f"{label} may not be read by this user.", code="NOT_READABLE", kind=Kind.DENIED, hint="Check its permissions.")
    return ImportRefused(f"{label} cannot be read: {os.strerror(error.errno or 0)}.", code="NOT_READABLE")
