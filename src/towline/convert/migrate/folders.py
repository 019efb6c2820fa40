"""Find the numbered versions in a model's folder, where the old server saw it or where it is now."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from towline.convert.migrate.plan import bad
from towline.core.errors import UsageError

_DIGITS = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Moved:
    """The old server, mostly in a container, saw `here` as `there`: `-v here:there` of docker run."""

    here: Path
    there: PurePosixPath


def read_moved(words: Sequence[str]) -> tuple[Moved, ...]:
    """`HERE:THERE` of each word, as docker run takes it. Raises UsageError."""
    found = []
    for word in words:
        here, colon, there = word.partition(":")
        there = there.removesuffix(":ro")
        if not colon or not here or not PurePosixPath(there).is_absolute():
            raise bad(f"--volume {word[:80]!r} is no HERE:THERE.", "Write it as docker run had it: --volume /srv/models:/models")
        found.append(Moved(Path(here), PurePosixPath(there)))
    return tuple(found)


def place_of(path: str, moved: Sequence[Moved]) -> Path:
    """Where the old server's `path` is here; the longest volume that holds it decides."""
    fitting = [one for one in moved if PurePosixPath(path).is_relative_to(one.there)]
    if not fitting:
        return Path(path)
    volume = max(fitting, key=lambda one: len(one.there.parts))
    return volume.here / PurePosixPath(path).relative_to(volume.there)


def numbered(folder: Path) -> dict[int, Path]:
    """Version -> its folder. `00000123` counts as 123, as it did there. Raises UsageError where the folder cannot be read."""
    found: dict[int, Path] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _DIGITS.fullmatch(entry.name) and entry.is_dir():
                    found.setdefault(int(entry.name), Path(entry.path))
    except OSError as error:
        raise unreadable(folder, error) from None
    return dict(sorted(found.items()))


def unreadable(path: Path, error: OSError) -> UsageError:
    hint = "If the old server ran in a container, say where its folders are here: --volume HERE:THERE"
    return bad(f"{path}: {os.strerror(error.errno or 0)}.", hint if isinstance(error, FileNotFoundError) else "Check its permissions.")
