"""What the controller imports: tried in a worker of the server's own, which the front takes over with the version that it has loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from towline.app.importing.model import import_into
from towline.app.serving.spawning import ForkedWorkers
from towline.app.sources import is_handler
from towline.core.store import Store
from towline.core.version import Version

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Importer:
    """`include` and `python` are what `towline serve` was told of a handler's modules and of the Python that reads a foreign file."""

    def __init__(self, store: Store, workers: ForkedWorkers, *, include: tuple[Path, ...], python: str) -> None:
        self._store = store
        self._workers = workers
        self._include = include
        self._python = python

    def bring_in(
        self,
        source: str | Path,
        name: str | None,
        number: int | None,
        given: Mapping[str, str] = _NOTHING,
        *,
        actor: str,
        may_convert: bool = True,
    ) -> Version:
        """Import a file; a worker that was needed for it goes to the front. `given` goes with it: labels, processing, preset.

        What a client sent is never converted: no framework is started for whoever can reach a port.
        """
        result, worker = import_into(
            self._store,
            source,
            name=name,
            number=number,
            labels=_path(given.get("labels")),
            processing=_path(given.get("processing")),
            preset=given.get("preset", ""),
            include=self._include if is_handler(str(source)) else (),
            python=self._python,
            actor=actor,
            start_worker=self._workers.start,
            start_reader=self._workers.start_reader,
            may_convert=may_convert,
            progress=_progress,
        )
        if worker is not None:
            self._workers.hand_over(worker, result.version.digest)
        return result.version


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def _progress(line: str) -> None:
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        # Whoever read it has gone (`towline serve 2>&1 | head`); the import goes on.
        pass
