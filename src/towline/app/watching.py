"""Serve the highest numbered version of a folder such as TF Serving's, as it appears and disappears."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from towline.convert.watch import MODEL_FILE, Seen, next_look, scan
from towline.core.deployment import Deployment, Policy
from towline.core.errors import TowlineError
from towline.core.refs import check_model_name
from towline.core.store import Store

log = logging.getLogger("towline.controller")


class Watcher:
    """One folder; the model's name is the folder's. `import_file` imports a file under a name and a number of its own."""

    def __init__(self, folder: Path, store: Store, import_file: Callable[[Path, str, int], None]) -> None:
        self._folder = folder
        self._store = store
        self._import_file = import_file
        self._name = check_model_name(folder.name)
        self._seen = Seen()

    def look(self) -> Deployment | None:
        """Scan once, import what is new and at rest; the deployment that follows from what is there, None while nothing is."""
        self._seen, steady = next_look(self._seen, scan(self._folder))
        for number in steady:
            try:
                self._import_file(self._folder / str(number) / MODEL_FILE, self._name, number)
            except (TowlineError, OSError) as error:
                # What answers goes on answering; this version is tried again when its files change.
                log.error("%s:%s was not imported: %s", self._name, number, error)
        present = sorted(set(self._seen.last) & set(self._store.numbers(self._name)))
        return Deployment(self._name, Policy("specific", numbers=(present[-1],))) if present else None
