"""What a search has tried so far, on disk, so that one that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

from towline.optimize.base import Chain, settings_of
from towline.optimize.passes import kind_of
from towline.optimize.plan import Tried

MAX_BYTES = 64 << 20


class Journal:
    """A line per chain: the kinds and settings of its passes, and what came of it. A torn last line, of a kill, is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # What passes keep for the case that they are killed.
        self.keep = path.with_suffix("")
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            with path.open("rb") as file:
                for line in file.read(MAX_BYTES).splitlines():
                    try:
                        found = json.loads(line)
                    except ValueError:
                        continue
                    self._known[found["key"]] = found["result"]

    @classmethod
    def of(cls, folder: Path, search: str) -> Journal:
        """That of one search: the same version, data and limits."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(folder / f"{hashlib.sha256(search.encode()).hexdigest()[:32]}.jsonl")

    def result(self, one: Chain) -> Tried | None:
        found = self._known.get(key_of(one))
        if found is None:
            return None
        curves = {name: tuple(points) for name, points in found["curves"].items()}
        return Tried(one, **{**found, "notes": tuple(found["notes"]), "curves": curves})

    def write(self, tried: Tried) -> None:
        result = {one.name: getattr(tried, one.name) for one in fields(tried) if one.name != "tried"}
        with self._path.open("ab") as file:
            file.write(json.dumps({"key": key_of(tried.tried), "result": result}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def forget(self) -> None:
        """A search that came to its end starts anew next time: the machine may be another by then."""
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self.keep, ignore_errors=True)


def key_of(chain: Chain) -> str:
    """What tells a chain from every other."""
    return json.dumps([[kind_of(one), settings_of(one)] for one in chain.passes], sort_keys=True)
