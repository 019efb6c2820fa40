"""Name a folder by its content: SHA-256 over the sorted list of its files and each file's own SHA-256."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from towline.core.errors import VersionError

_CHUNK_BYTES = 1 << 20


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a regular file that is not reached through a link."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def folder_files(folder: Path) -> list[str]:
    """Relative names, sorted, `/` between parts. Anything but plain directories and singly linked regular files is an error."""
    names = []
    for root, folders, files in os.walk(folder, followlinks=False):
        for name in folders + files:
            path = Path(root, name)
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise VersionError(f"'{name}' in a version is not a plain file with a single link.", code="NOT_A_PLAIN_FILE")
            if not name.isprintable():
                # A line break in a name would let two different folders have one listing, and so one digest.
                raise VersionError(f"A file name in a version holds control characters: {ascii(name)[:80]}.", code="NOT_A_PLAIN_FILE")
            names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def folder_digest(folder: Path) -> str:
    """`sha256:…` of the folder: one line `<hex of file> <name>` per file, sorted by name, hashed."""
    listing = "".join(f"{file_digest(folder / name)} {name}\n" for name in folder_files(folder))
    return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


def folder_size_bytes(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in folder_files(folder))
