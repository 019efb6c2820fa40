"""List a zip archive: its central directory against the bytes it points at, since tools that believe one or the other disagree."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from towline.convert import wording
from towline.convert.archive_entries import Bounds, Entry, check_count, parts_of, refused

_END, _END_BYTES = b"PK\x05\x06", 22
_LOCATOR_BYTES, _END64_BYTES = 20, 56
_MAX_COMMENT_BYTES = 1 << 16
# A directory of so many bytes has room for every entry that is taken, with a long name each.
_MAX_DIRECTORY_BYTES = 16 << 20
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1


@contextmanager
def open_zip(file: IO[bytes], bounds: Bounds) -> Iterator[list[Entry]]:
    """The entries of a zip file. Raises ImportRefused."""
    _check_directory_size(file)
    try:
        opened = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError) as error:
        raise refused("TORN", f"cannot be read: {wording.sentence(str(error))}") from None
    with opened:
        infos = opened.infolist()
        check_count(len(infos), bounds)
        _check_overlap(file, opened, infos)
        yield [entry for entry in (_entry(opened, info) for info in infos) if entry.parts]


def _entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    # Not `filename`, which is cut at a NUL.
    name = info.orig_filename
    label = wording.name(name)
    if info.flag_bits & _ENCRYPTED:
        raise refused("ENCRYPTED", f"holds {label} encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refused("PACKING", f"holds {label} packed in a way other than deflate")
    kind = stat.S_IFMT(info.external_attr >> 16)
    is_folder = name.endswith("/")
    if stat.S_ISLNK(kind):
        raise refused("LINK", f"holds the link {label}")
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        raise refused("SPECIAL_FILE", f"holds {label}, which is no plain file")
    if is_folder and info.file_size:
        raise refused("SIZE_LIE", f"gives the folder {label} a content")
    return Entry(parts_of(name), is_folder, info.file_size, info.compress_size, lambda: _content(opened, info))


def _content(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return opened.open(info)
    except (zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError, struct.error) as error:
        raise refused("TORN", f"cannot be read: {wording.sentence(str(error))}") from None


def _check_directory_size(file: IO[bytes]) -> None:
    """Before zipfile reads the whole directory, however large its end says that it is."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_BYTES - _MAX_COMMENT_BYTES))
    tail = file.read()
    at = tail.rfind(_END)
    end = tail[at : at + _END_BYTES]
    if at < 0 or len(end) < _END_BYTES:
        raise refused("TORN", "is cut off: the list at its end is missing")
    directory_bytes = struct.unpack("<L", end[12:16])[0]
    start = size - len(tail) + at - _LOCATOR_BYTES - _END64_BYTES
    if start >= 0:
        file.seek(start)
        end64 = file.read(_END64_BYTES)
        if end64.startswith(b"PK\x06\x06"):
            directory_bytes = max(directory_bytes if directory_bytes < 0xFFFFFFFF else 0, struct.unpack("<Q", end64[40:48])[0])
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise refused("TOO_MANY", f"has a list of more than {_MAX_DIRECTORY_BYTES >> 20} MiB")
    file.seek(0)


def _check_overlap(file: IO[bytes], opened: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
    """Each entry has bytes of its own, before the directory: bombs of a few kilobytes live on sharing them."""
    reached = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        label = wording.name(info.orig_filename)
        if info.header_offset < reached:
            raise refused("OVERLAP", f"has {label} share bytes with another entry")
        file.seek(info.header_offset)
        raw = file.read(_LOCAL.size)
        if len(raw) < _LOCAL.size or not raw.startswith(b"PK\x03\x04"):
            raise refused("TORN", f"has no entry where its list says that {label} is")
        *_, name_bytes, extra_bytes = _LOCAL.unpack(raw)
        reached = info.header_offset + _LOCAL.size + name_bytes + extra_bytes + info.compress_size
        if reached > opened.start_dir:
            raise refused("OVERLAP", f"has {label} reach into its list")
