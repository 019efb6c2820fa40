"""What every fetch does alike: names its source without secrets, asks for its size first, and writes no more than is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult

from towline.app.machine import free_bytes
from towline.core.errors import ImportRefused
from towline.core.refs import clip

PIECE_BYTES = 1 << 20


def shown(url: SplitResult) -> str:
    """The URL without what may be secret: user, password, query, fragment."""
    return clip(f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}")


def check_size(size_bytes: int, max_bytes: int, into: Path, name: str) -> None:
    """Raises ImportRefused for what is larger than an import may be, or than the disk has room for."""
    if size_bytes > max_bytes:
        raise ImportRefused(f"{name} has {size_bytes:,} bytes; at most {max_bytes:,} are fetched.", code="TOO_LARGE")
    free = free_bytes(into.parent)
    if size_bytes > free:
        hint = "Make room, or name another folder for temporary files: TMPDIR=/DIR"
        raise ImportRefused(f"{name} has {size_bytes:,} bytes, and {into.parent} room for {free:,}.", code="DISK_FULL", hint=hint)


def write_bounded(read: Callable[[int], bytes], into: Path, max_bytes: int, name: str) -> int:
    """Write what `read` gives until it gives nothing; the number of bytes. Raises ImportRefused past the limit, whatever was announced."""
    written = 0
    with open(into, "xb") as file:
        while piece := read(PIECE_BYTES):
            written += len(piece)
            if written > max_bytes:
                raise ImportRefused(f"{name} has more than {max_bytes:,} bytes, the most that is fetched.", code="TOO_LARGE")
            try:
                file.write(piece)
            except OSError as error:
                raise ImportRefused(f"{name} cannot be kept in {into.parent}: {error.strerror}.", code="DISK_FULL") from None
    return written
