"""Serve the numbered versions of a folder such as TF Serving's, as they appear and disappear."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from towline.app.serving.folder_imports import FolderImports, Numbered
from towline.convert.watch import Found, at_rest, scan
from towline.core.clock import Clock
from towline.core.deployment import Deployment, Limits, Policy, chosen_numbers
from towline.core.errors import TowlineError
from towline.core.event import Event
from towline.core.refs import check_model_name, clip
from towline.core.store import Store

log = logging.getLogger("towline.controller")

REFUSED = "version.refused"
# How far back a refusal is looked for, which after a restart is met again.
_MOST_COMPARED = 100


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
    """One folder, of which `imports` brings in what is to be served."""

    def __init__(self, watched: Watched, store: Store, imports: FolderImports, clock: Clock) -> None:
        check_model_name(watched.name)
        self.watched = watched
        self._store = store
        self._imports = imports
        self._clock = clock
        self._seen: Mapping[int, Found] = {}
        self._told: dict[int, tuple[Found, str]] = {}
        self._complaints: set[str] = set()

    def look(self) -> Deployment | None:
        """Scan once, bring in what is at rest and to be served; the deployment that follows from what is there, None while nothing is.

        What is refused counts as not there until its files change: the next lower number is taken, and what answers goes on answering.
        """
        before, self._seen = self._seen, scan(self.watched.folder)
        if not self._seen:
            self._complain(f"{self.watched.name}: {self.watched.folder} holds no version; each is a folder named by its number: 1, 2, ….")
        resting = {number: Numbered(self.watched.name, number, found) for number, found in at_rest(before, self._seen).items()}
        usable = tuple(number for number, one in resting.items() if not self._is_refused(one, self._imports.refusal(one)))
        # The newest first: of what is converted, which takes its time, the others come one after another.
        for number in sorted(self._wanted(usable), reverse=True):
            try:
                is_in = self._imports.bring_in(resting[number])
            except TowlineError as error:
                self._is_refused(resting[number], error)
                continue
            if is_in and number not in self._store.numbers(self.watched.name):
                self._complain(f"{self.watched.name}:{number} holds what another number holds, under which it is known and served.")
        return self._deployment(tuple(self._seen.keys() & set(self._store.numbers(self.watched.name))))

    def _wanted(self, usable: tuple[int, ...]) -> set[int]:
        labelled = set(self.watched.labels.values()) if self.watched.loose_labels else set()
        return {*chosen_numbers(self.watched.policy, usable, {}), *(labelled & set(usable))}

    def _is_refused(self, version: Numbered, refusal: TowlineError | None) -> bool:
        """Also tells it, once."""
        if refusal is None:
            return False
        telling = version.found, refusal.message
        if self._told.get(version.number) != telling:
            self._told[version.number] = telling
            log.error("%s:%s was not imported: %s %s", version.name, version.number, refusal.message, refusal.hint)
            self._record(version, refusal)
        return True

    def _record(self, version: Numbered, refusal: TowlineError) -> None:
        """One event for these files and this reason, however often a server is started on them."""
        files = hashlib.sha256(repr(version.found.fingerprint).encode()).hexdigest()
        told = {"number": version.number, "code": refusal.code, "files": files}
        event = Event(REFUSED, "server", self._clock.time(), name=version.name, why=refusal.message, data=told)
        try:
            known = self._store.events(name=version.name, kind=REFUSED, limit=_MOST_COMPARED)
            if not any(one.why == event.why and told.items() <= one.data.items() for one in known):
                self._store.append(event)
        except TowlineError as error:
            # What is served goes on beside a store that is full.
            log.error("that %s:%s was not imported could not be recorded: %s", version.name, version.number, error)

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
