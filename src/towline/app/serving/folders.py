"""The folders whose numbered versions are served: those of --watch, of a model configuration file, and of a client that replaced it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from towline.app.serving.folder_imports import FolderImports, Numbered
from towline.app.serving.tfserving_files import ConfiguredFolders
from towline.app.serving.watching import Watched, Watcher
from towline.app.serving.wishes import BeingConverted, check_path
from towline.convert.watch import scan
from towline.core.clock import Clock
from towline.core.deployment import Deployment, Policy, chosen_numbers
from towline.core.errors import Overloaded
from towline.core.event import Event
from towline.core.store import Store

RELOADED = "config.reloaded"
_WATCH_S = 1.0


class Folders:
    """`wish` is the controller's."""

    def __init__(self, wish: Mapping[str, Any], store: Store, clock: Clock, imports: FolderImports) -> None:
        """Raises UsageError for a configuration file that cannot be read."""
        self._given: Sequence[str] = wish["watch"]
        self._store = store
        self._clock = clock
        self._imports = imports
        self._configured = ConfiguredFolders(wish["tfserving"], clock)
        self._watchers: dict[str, Watcher] = {}
        self._next_s = 0.0
        self._set_watchers()

    @property
    def names(self) -> Collection[str]:
        """The models that a folder decides about."""
        return self._watchers.keys()

    def is_due(self) -> bool:
        """Whether it is time to look; the next time then is a second from now."""
        if not self._watchers or self._clock.monotonic() < self._next_s:
            return False
        self._next_s = self._clock.monotonic() + _WATCH_S
        return True

    def read_again(self) -> set[str]:
        """The models whose folders the configuration file no longer names."""
        if not self._configured.poll():
            return set()
        before = set(self._watchers)
        self._set_watchers()
        return before - self._watchers.keys()

    def look(self) -> Iterable[Deployment]:
        """Scan each folder once, and bring in what is new: what follows for those that hold something."""
        return (deployment for watcher in list(self._watchers.values()) if (deployment := watcher.look()) is not None)

    def present(self, name: str, base_path: str, policy: Policy) -> tuple[int, ...]:
        """The numbers in a folder that a client's configuration names. What `policy` needs is imported now, the rest by the next look.

        What is known to be refused counts as not there, unless it is asked for by its number.
        """
        check_path(name, base_path, self._configured.paths)
        found = {number: Numbered(name, number, one) for number, one in scan(Path(base_path)).items()}
        usable = tuple(number for number, one in found.items() if number in policy.numbers or self._imports.refusal(one) is None)
        missing = set(chosen_numbers(policy, usable, {})) - set(self._store.numbers(name))
        if not all(self._imports.bring_in(found[number]) for number in sorted(missing, reverse=True)):
            raise BeingConverted(name)
        return usable

    def replace(self, models: Sequence[Mapping[str, Any]], actor: str) -> None:
        """Watch what a client's configuration names from now on, and after a restart of the controller. Raises Overloaded."""
        told = [dict(model) for model in models if model["base_path"]]
        if self._store.append(Event(RELOADED, actor, self._clock.time(), data={"models": told})) is None:
            raise Overloaded("The configuration was replaced too often within a minute.", code="RELOADED_TOO_OFTEN", retry_after_s=60.0)
        self._take(told)

    def take_over(self, since_s: float) -> None:
        """Go on with what a client made of the configuration since this server started."""
        for event in self._store.events(kind=RELOADED, limit=1):
            if event.at_s >= since_s:
                self._take(event.data["models"])

    def _take(self, models: Sequence[Mapping[str, Any]]) -> None:
        self._configured.replace({model["name"]: model for model in models})
        self._set_watchers()

    def _set_watchers(self) -> None:
        """Of the folders that are to be watched now; one that stays goes on with what it has seen."""
        folders = {Path(folder).name: Watched(Path(folder).name, Path(folder)) for folder in self._given} | self._configured.folders
        before, self._watchers = self._watchers, {}
        for name, watched in folders.items():
            watcher = before.get(name)
            if watcher is None or watcher.watched.folder != watched.folder:
                watcher = Watcher(watched, self._store, self._imports, self._clock)
            watcher.watched = watched
            self._watchers[name] = watcher
