"""Write a new file: whole under its name, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from towline.core.errors import UsageError


def free_place(named: str, option: str, source: str | Path | None = None) -> Path:
    """Where a new file may be made. Asked before the work, so that a typing error costs nothing. Raises UsageError."""
    place = Path(named)
    if os.path.lexists(place):
        what = "is the input" if source is not None and place.exists() and _is_same(place, source) else "exists"
        raise UsageError(f"{option} {named} {what}; nothing was changed.", hint="Name a new file.")
    if not place.parent.is_dir():
        raise UsageError(f"{option} {named}: there is no folder {place.parent}.", hint="Make it first.")
    return place


@contextmanager
def new_file(place: Path, option: str) -> Iterator[BinaryIO]:
    """A file to write that gets its name at the end; whatever is raised meanwhile leaves nothing.

    It is written beside, then linked to its name, which fails if someone took that meanwhile.
    """
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, place)
    except OSError as error:
        raise UsageError(f"{option} {place}: {error.strerror}; nothing was written.", hint="Name another place.") from error
    finally:
        beside.unlink(missing_ok=True)


def _is_same(place: Path, source: str | Path) -> bool:
    return os.path.exists(source) and os.path.samefile(place, source)
