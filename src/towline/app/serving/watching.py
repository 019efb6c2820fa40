"""Serve the numbered versions of a folder such as TF Serving's, as they appear and disappear."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from towline.convert.watch import MODEL_FILE, Seen, next_look, saved_models, scan
from towline.core.deployment import Deployment, Limits, Policy, chosen_numbers
from towline.core.errors import TowlineError
from towline.core.refs import check_model_name, clip
from towline.core.store import Store

log = logging.getLogger("towline.controller")


@dataclass(frozen=True)
class Watched:
    """A folder, the name it is served under, and which of its versions: the highest one, unless `policy` says otherwise.

    `loose_labels` lets a label point to a version of the folder that the policy does not choose, which is then served as well.
    """

    name: str
    folder: Path
    policy: Policy = field(default_factory=Policy)
    labels: Mapping[str, int] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    loose_labels: bool = False


class Watcher:
    """One folder. `import_file` imports a file under a name and a number of its own."""

    def __init__(self, watched: Watched, store: Store, import_file: Callable[[Path, str, int], None]) -> None:
        check_model_name(watched.name)
        self.watched = watched
        self._store = store
        self._import_file = import_file
        self._seen = Seen()
        self._complaints: set[str] = set()

    def look(self) -> Deployment | None:
        """Scan once, import what is new and at rest; the deployment that follows from what is there, None while nothing is."""
        folder, name = self.watched.folder, self.watched.name
        self._seen, steady = next_look(self._seen, scan(folder))
        for number in steady:
            try:
                self._import_file(folder / str(number) / MODEL_FILE, name, number)
            except (TowlineError, OSError) as error:
                # What answers goes on answering; this version is tried again when its files change.
                log.error("%s:%s was not imported: %s", name, number, error)
        for number in saved_models(folder):
            self._complain(
                f"{name}:{number} is a TensorFlow SavedModel, which a folder that is watched does not serve: it is converted and proven"
                f" once, by 'towline import' or, with all the others, by 'towline migrate tfserving'. Or put its ONNX file beside it,"
                f" as {number}/{MODEL_FILE}."
            )
        return self._deployment(tuple(set(self._seen.last) & set(self._store.numbers(name))))

    def _deployment(self, present: tuple[int, ...]) -> Deployment | None:
        watched = self.watched
        numbers = chosen_numbers(watched.policy, present, {})
        if not numbers:
            return None
        labels = {label: number for label, number in watched.labels.items() if number in (present if watched.loose_labels else numbers)}
        for label in watched.labels.keys() - labels.keys():
            number = watched.labels[label]
            self._complain(f"The label '{clip(label)}' of {watched.name} points to version {number}, which is not served: it is left out.")
        return Deployment(watched.name, Policy("specific", numbers=numbers), labels, watched.limits)

    def _complain(self, sentence: str) -> None:
        if sentence not in self._complaints:
            self._complaints.add(sentence)
            log.error("%s", sentence)
