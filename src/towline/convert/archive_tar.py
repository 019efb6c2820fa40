"""List a tar archive, packed by gzip or not: headers bounded, links, devices and holes refused."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from towline.convert import wording
from towline.convert.archive_entries import Bounds, Entry, check_count, check_ratio, parts_of, refused

_CHUNK_BYTES = 1 << 20
# What each entry may need beside its content: a header, a long name, padding.
_ENTRY_BYTES = 4096
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


@contextmanager
def open_tar(file: IO[bytes], scratch: Path, bounds: Bounds, *, is_packed: bool) -> Iterator[list[Entry]]:
    """The entries of a tar file; a packed one is unpacked into a nameless file in `scratch` first. Raises ImportRefused."""
    with _plain(file, scratch, bounds) if is_packed else _as_it_is(file) as plain:
        try:
            opened = tarfile.TarFile(fileobj=_Bounded(plain), errorlevel=2)  # type: ignore[arg-type]
        except (tarfile.TarError, ValueError, RecursionError, EOFError) as error:
            raise refused("TORN", f"is no zip or tar file, or a damaged one: {wording.sentence(str(error))}") from None
        with opened:
            yield _entries(opened, bounds)


class _Bounded:
    """A file of which tarfile gets no more at a time than a header may need: it asks for as much as an extended header says that it has."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK_BYTES:
            raise refused("TOO_LARGE", f"has a header of more than {_CHUNK_BYTES >> 20} MiB")
        return self._file.read(size)


def _entries(opened: tarfile.TarFile, bounds: Bounds) -> list[Entry]:
    entries = []
    reached = -1
    number = 0
    try:
        for member in opened:
            number += 1
            check_count(number, bounds)
            # A negative size in an extended header sends tarfile back to where it was.
            if member.size < 0 or member.offset_data <= reached:
                raise refused("SIZE_LIE", f"gives {wording.name(member.name)} a negative size")
            reached = member.offset_data
            entry = _entry(opened, member)
            if entry.parts:
                entries.append(entry)
    except (tarfile.TarError, ValueError, RecursionError, EOFError) as error:
        raise refused("TORN", f"is damaged: {wording.sentence(str(error))}") from None
    _check_end(opened)
    return entries


def _check_end(opened: tarfile.TarFile) -> None:
    """tarfile takes a header that it cannot read for the end, and the files after it are missed by nobody."""
    assert opened.fileobj is not None
    opened.fileobj.seek(opened.offset)
    last = opened.fileobj.read(tarfile.BLOCKSIZE)
    if len(last) < tarfile.BLOCKSIZE or last.strip(b"\0"):
        raise refused("TORN", "is cut off or damaged: its end is not where its last file ends")


def _entry(opened: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    label = wording.name(member.name)
    if member.issym() or member.islnk():
        raise refused("LINK", f"holds the link {label}")
    if member.issparse():
        raise refused("SPARSE", f"holds {label} as a file with holes")
    if member.type not in (*_PLAIN, tarfile.DIRTYPE):
        raise refused("SPECIAL_FILE", f"holds {label}, which is no plain file")
    size = 0 if member.isdir() else member.size
    return Entry(parts_of(member.name), member.isdir(), size, 0, lambda: _content(opened, member))


def _content(opened: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    source = opened.extractfile(member)
    assert source is not None
    return source


@contextmanager
def _plain(file: IO[bytes], scratch: Path, bounds: Bounds) -> Iterator[IO[bytes]]:
    packed_bytes = os.fstat(file.fileno()).st_size
    most = bounds.total_bytes + bounds.entries * _ENTRY_BYTES
    with tempfile.TemporaryFile(dir=scratch) as target:
        written = 0
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                while chunk := unpacked.read(_CHUNK_BYTES):
                    written += len(chunk)
                    check_ratio(written, packed_bytes, bounds)
                    if written > most:
                        raise refused("TOO_LARGE", f"unpacks to more than {bounds.total_bytes} bytes")
                    target.write(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise refused("TORN", f"is damaged: {wording.sentence(str(error))}") from None
        target.seek(0)
        yield target


@contextmanager
def _as_it_is(file: IO[Any]) -> Iterator[IO[bytes]]:
    file.seek(0, io.SEEK_SET)
    yield file
