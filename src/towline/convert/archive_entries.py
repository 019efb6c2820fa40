"""Decide whether what an archive lists may be unpacked, by names, kinds and sizes alone. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from towline.convert import wording
from towline.core.errors import ImportRefused, Kind

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 1024
_MAX_DEPTH = 32
# Below this many bytes a file of zeros is no bomb, however well it was packed.
_RATIO_FLOOR_BYTES = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """What an archive may hold. `ratio` is unpacked bytes per packed byte."""

    total_bytes: int = 64 << 30
    file_bytes: int = 32 << 30
    entries: int = 10_000
    ratio: int = 200


@dataclass(frozen=True)
class Entry:
    """One file or folder as its archive lists it, its name split at each `/`. `packed_bytes` is 0 where files are not packed one by one."""

    parts: tuple[str, ...]
    is_folder: bool
    size_bytes: int
    packed_bytes: int
    open: Callable[[], IO[bytes]]


def checked(entries: Sequence[Entry], *, archive_bytes: int, bounds: Bounds) -> Sequence[Entry]:
    """`entries`, once all of them together may be unpacked. Raises ImportRefused naming the first that may not."""
    kinds: dict[str, bool] = {}
    for entry in entries:
        _check_sizes(entry, bounds)
        _check_unique(entry, kinds)
    total = sum(entry.size_bytes for entry in entries)
    if total > bounds.total_bytes:
        raise refused("TOO_LARGE", f"unpacks to {total} bytes; at most {bounds.total_bytes} are taken", kind=Kind.TOO_LARGE)
    check_ratio(total, archive_bytes, bounds)
    return entries


def check_ratio(size_bytes: int, packed_bytes: int, bounds: Bounds, what: str = "") -> None:
    if size_bytes > _RATIO_FLOOR_BYTES and size_bytes > bounds.ratio * max(packed_bytes, 1):
        raise refused("BOMB", f"{what}unpacks to more than {bounds.ratio} times its size", kind=Kind.TOO_LARGE)


def check_count(number: int, bounds: Bounds) -> None:
    if number > bounds.entries:
        raise refused("TOO_MANY", f"holds more than {bounds.entries} files and folders", kind=Kind.TOO_LARGE)


def parts_of(name: str) -> tuple[str, ...]:
    """The checked parts of an entry's name; none for the archive's own folder (`./`). Raises ImportRefused."""
    if name.startswith("/"):
        raise refused("ABSOLUTE_NAME", f"names the absolute path {wording.name(name)}")
    if len(name.encode(errors="surrogateescape")) > _MAX_PATH_BYTES:
        raise refused("BAD_NAME", f"has a name of more than {_MAX_PATH_BYTES} bytes")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise refused("ESCAPES", f"names a place outside its own folder: {wording.name(name)}")
    if len(parts) > _MAX_DEPTH:
        raise refused("BAD_NAME", f"has a file more than {_MAX_DEPTH} folders deep")
    for part in parts:
        # Printable keeps out NUL, line ends and characters that turn the direction of text; NFKC, look-alikes of '/' and '.'.
        if not part.isprintable() or "\\" in part or ":" in part or part != unicodedata.normalize("NFKC", part):
            raise refused("BAD_NAME", f"has a name with characters that are not taken: {wording.name(name)}")
        if len(part.encode()) > _MAX_NAME_BYTES or part != part.strip():
            raise refused("BAD_NAME", f"has a name that is too long, or begins or ends with a space: {wording.name(name)}")
    return parts


def refused(code: str, what: str, *, kind: Kind | None = None) -> ImportRefused:
    """`what` follows "The archive"."""
    return ImportRefused(
        f"The archive {what}.", code=f"ARCHIVE_{code}", kind=kind, hint="Make it anew from the model's files, or give the unpacked folder."
    )


def _check_sizes(entry: Entry, bounds: Bounds) -> None:
    label = wording.name("/".join(entry.parts))
    if entry.size_bytes < 0:
        raise refused("SIZE_LIE", f"gives {label} a negative size")
    if entry.size_bytes > bounds.file_bytes:
        raise refused("TOO_LARGE", f"holds {label} of {entry.size_bytes} bytes; at most {bounds.file_bytes} are taken", kind=Kind.TOO_LARGE)
    if entry.packed_bytes:
        check_ratio(entry.size_bytes, entry.packed_bytes, bounds, f"holds {label}, which ")


def _check_unique(entry: Entry, kinds: dict[str, bool]) -> None:
    """No name twice, not even in other letters' case; no file where a folder is needed. `kinds`: path -> whether it is a folder."""
    path = "/".join(entry.parts).casefold()
    label = wording.name("/".join(entry.parts))
    for end in range(1, len(entry.parts)):
        if not kinds.setdefault("/".join(entry.parts[:end]).casefold(), True):
            raise refused("DUPLICATE", f"has {label} inside something that is a file")
    if path in kinds and not (entry.is_folder and kinds[path]):
        raise refused("DUPLICATE", f"holds {label} twice, or in two spellings that differ in case alone")
    kinds[path] = entry.is_folder
