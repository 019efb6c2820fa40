"""Unpack a zip or tar archive that nobody vouched for: everything in it is checked before the first byte is written."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from towline.convert import wording
from towline.convert.archive_entries import Bounds, Entry, checked, refused
from towline.convert.archive_tar import open_tar
from towline.convert.archive_zip import open_zip
from towline.core.errors import Kind

DEFAULT_BOUNDS = Bounds()
_CHUNK_BYTES = 1 << 20
_ZIP, _GZIP = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def extract_archive(archive: Path, into: Path, bounds: Bounds = DEFAULT_BOUNDS) -> tuple[str, ...]:
    """Unpack a .zip (.mar is one), .tar or .tar.gz file into the empty folder `into`; the names of its files, in the archive's order.

    Only plain files and folders come out, with fresh permissions. Raises ImportRefused with an `ARCHIVE_…` code for links, devices,
    names that leave the folder or differ in case alone, sizes beyond `bounds`, and whatever is torn or contradicts itself. What was
    written until then stays in `into`, which is the caller's to throw away.
    """
    try:
        with archive.open("rb") as file, _opened(file, into, bounds) as entries:
            plan = checked(entries, archive_bytes=os.fstat(file.fileno()).st_size, bounds=bounds)
            folder = os.open(into, _FOLDER)
            try:
                for entry in plan:
                    _write(entry, folder)
            finally:
                os.close(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise refused("NO_ROOM", "is larger than the room that is left on the disk", kind=Kind.OUT_OF_MEMORY) from None
        raise refused("NOT_READABLE", f"cannot be unpacked: {os.strerror(error.errno or 0)}") from None
    return tuple("/".join(entry.parts) for entry in plan if not entry.is_folder)


def read_archive(archive: Path, names: Collection[str], scratch: Path, *, max_bytes: int) -> dict[str, bytes | None]:
    """What some small files of an archive hold; None for one that is not in it. They may lie in one folder, as a tar mostly has it.

    Nothing is unpacked, and the same is refused.
    """
    found: dict[str, bytes | None] = dict.fromkeys(names)
    try:
        with archive.open("rb") as file, _opened(file, scratch, DEFAULT_BOUNDS) as entries:
            for entry in checked(entries, archive_bytes=os.fstat(file.fileno()).st_size, bounds=DEFAULT_BOUNDS):
                name = next((name for name in names if name in ("/".join(entry.parts), "/".join(entry.parts[1:]))), "")
                if name and found[name] is None and not entry.is_folder:
                    if entry.size_bytes > max_bytes:
                        raise refused("TOO_LARGE", f"has {wording.name(name)} of more than {max_bytes} bytes", kind=Kind.TOO_LARGE)
                    content = io.BytesIO()
                    _copy(entry, content)
                    found[name] = content.getvalue()
    except OSError as error:
        raise refused("NOT_READABLE", f"cannot be read: {os.strerror(error.errno or 0)}") from None
    return found


@contextmanager
def _opened(file: IO[bytes], into: Path, bounds: Bounds) -> Iterator[list[Entry]]:
    head = file.read(4)
    file.seek(0)
    if head.startswith(_ZIP):
        with open_zip(file, bounds) as entries:
            yield entries
    else:
        with open_tar(file, into, bounds, is_packed=head.startswith(_GZIP)) as entries:
            yield entries


def _write(entry: Entry, root: int) -> None:
    """Every folder on the way is opened without following links, so that nothing written earlier leads elsewhere."""
    folder = os.dup(root)
    try:
        for part in entry.parts if entry.is_folder else entry.parts[:-1]:
            inner = _folder(part, folder)
            os.close(folder)
            folder = inner
        if not entry.is_folder:
            with os.fdopen(os.open(entry.parts[-1], _NEW_FILE, 0o644, dir_fd=folder), "wb") as target:
                _copy(entry, target)
    finally:
        os.close(folder)


def _folder(name: str, parent: int) -> int:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        # Of an entry before; should it be anything but a folder, it is not opened.
        pass
    return os.open(name, _FOLDER, dir_fd=parent)


def _copy(entry: Entry, target: IO[bytes]) -> None:
    """Exactly as many bytes as the archive's list promised."""
    label = wording.name("/".join(entry.parts))
    left = entry.size_bytes
    try:
        with entry.open() as source:
            while chunk := source.read(min(_CHUNK_BYTES, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                target.write(chunk)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise refused("TORN", f"has a damaged file, {label}: {wording.sentence(str(error))}") from None
    if left != 0:
        raise refused("SIZE_LIE", f"says that {label} has {entry.size_bytes} bytes, and it has {'more' if left < 0 else 'fewer'}")
