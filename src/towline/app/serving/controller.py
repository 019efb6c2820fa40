"""Main of the controller: the server's only writer of the store. It may be down without stopping answers.

    python -m towline.app.serving.controller CHANNEL_FD WISH_JSON LAUNCH
LAUNCH counts from 1; a later one is a successor, which takes over what the first was asked for.
It imports what the command line named, tells the front what to serve whenever the store changes, and records what the front reports.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from towline.app.importing.model import import_into, name_of
from towline.app.serving.desired import check_names, deployment_for, desired_models, together
from towline.app.serving.folder_imports import FolderImports, Numbered
from towline.app.serving.inbox import Inbox, Letter
from towline.app.serving.model_control import ModelControl, Rules
from towline.app.serving.spawning import ForkedWorkers
from towline.app.serving.tfserving_files import ConfiguredFolders
from towline.app.serving.watching import Watched, Watcher
from towline.app.serving.wishes import BeingConverted, check_path
from towline.app.sources import is_handler
from towline.convert.watch import scan
from towline.core import channel
from towline.core.clock import SystemClock
from towline.core.deployment import Deployment, Limits, Policy, chosen_numbers
from towline.core.errors import Conflict, Kind, Overloaded, TowlineError
from towline.core.event import Event
from towline.core.process import become, ignore_signals_of_the_terminal
from towline.core.refs import parse_ref
from towline.core.store import Store
from towline.core.version import Version
from towline.store.sqlite import open_store

log = logging.getLogger("towline.controller")

_POLL_S = 0.25
_WATCH_S = 1.0
_EXIT_CODES = {Kind.USAGE: 2, Kind.NOT_FOUND: 4, Kind.CONFLICT: 5, Kind.MISSING_EXTRA: 6, Kind.DEADLINE: 8}
_ACTOR = "server"
_RELOADED = "config.reloaded"


class Controller:
    def __init__(self, end: socket.socket, wish: dict[str, Any], store: Store, *, is_successor: bool) -> None:
        self._inbox = Inbox(end)
        self._wish = wish
        self._store = store
        self._clock = SystemClock()
        self._workers = ForkedWorkers(self._inbox, wish["max_request_bytes"])
        # None: everything the store deploys, so that what clients loaded is there again after a restart.
        has_wishes = wish["refs"] or wish["watch"] or wish["tfserving"]["config_file"] or wish["tfserving"]["base_path"]
        self._names: set[str] | None = set() if has_wishes and wish["model_control"] == "none" else None
        self._configured = ConfiguredFolders(wish["tfserving"], self._clock)
        if is_successor:
            self._take_over_configuration()
        self._imports = FolderImports(Path(wish["home"]), self._import)
        self._watchers: dict[str, Watcher] = {}
        self._set_watchers()
        loose_labels = wish["tfserving"]["loose_labels"]
        rules = Rules(wish["load_timeout_s"], lambda: self._watchers, self._bring_in_folder, self._keep_configuration, loose_labels)
        self._control = ModelControl(store, self._send, self._import_sent, rules, self._clock)
        self._is_successor = is_successor
        # Everything the command line named is there.
        self._is_complete = False
        # What was told last, and the state of affairs it followed from.
        self._sent: dict[str, Any] | None = None
        self._seen: Any = None
        self._complaint = ""
        self._state = StateFile(Path(wish["home"]) / "run", wish["url"], wish["grpc_url"], self._clock)

    def run(self) -> None:
        self._deploy([ref for ref in self._wish["refs"] if not (self._is_successor and self._take_over(ref))])
        self._is_complete = True
        next_watch_s = 0.0
        while True:
            if self._watchers and self._clock.monotonic() >= next_watch_s:
                self._guarded(self._watch)
                next_watch_s = self._clock.monotonic() + _WATCH_S
            self._control.step()
            self._guarded(self._publish)
            self._control.keep_time()
            while self._workers.kept:
                self._heed(self._workers.kept.pop(0))
            letter = self._inbox.receive(_POLL_S)
            if letter is not None:
                self._heed(letter)
            elif self._inbox.is_closed:
                return

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do something that the store or the disk may refuse: what is served stays served, and it is tried again."""
        try:
            work()
        except (BrokenPipeError, ConnectionResetError):
            raise
        except (TowlineError, OSError) as error:
            if str(error) != self._complaint:
                log.error("the store or its disk refuses, what is served stays as it is: %s", error)
            self._complaint = str(error)
        else:
            self._complaint = ""

    # What to serve

    def _take_over(self, ref: str) -> bool:
        """Go on with what the first controller deployed. Its file may be gone and its deployment changed since: neither is redone."""
        name = name_of(ref) if _is_file(ref) else parse_ref(ref).name
        is_deployed = any(one.name == name for one in self._store.deployments())
        if is_deployed and self._names is not None:
            self._names.add(name)
        return is_deployed or self._was_unloaded(name)

    def _was_unloaded(self, name: str) -> bool:
        """Since this server started: a client did that, and was told so."""
        removals = self._store.events(name=name, kind="deployment.removed", limit=1)
        return any(event.at_s >= self._wish["started_s"] for event in removals)

    def _deploy(self, refs: Sequence[str]) -> None:
        """A ref must exist; a file is imported. Either becomes a deployment, so that `towline serve` alone serves it again."""
        files = [ref for ref in refs if _is_file(ref)]
        parsed = [parse_ref(ref) for ref in refs if ref not in files]
        wished = together(deployment_for(ref, self._store.version(ref)) for ref in parsed)
        check_names(files, [name_of(file) for file in files], wished)
        for deployment in wished.values():
            self._wants(deployment)
        for file in files:
            self._import(file, None, None, self._wish.get("given", {}))

    def _import_sent(self, source: Path, name: str, number: int, actor: str) -> None:
        """What a client sent. Not published: a worker that no table needs would be let go of, and the one that needs it comes next."""
        self._bring_in(source, name, number, actor=actor, may_convert=False)

    def _import(self, source: str | Path, name: str | None, number: int | None, given: Mapping[str, str] = MappingProxyType({})) -> None:
        version = self._bring_in(source, name, number, given)
        if number is None:
            self._wants(deployment_for(parse_ref(version.name), version))
        self._publish()

    def _bring_in(
        self,
        source: str | Path,
        name: str | None,
        number: int | None,
        given: Mapping[str, str] = MappingProxyType({}),
        *,
        actor: str = _ACTOR,
        may_convert: bool = True,
    ) -> Version:
        """Import a file through a worker that the front takes over when it is new. `given` goes with it: labels, processing, preset.

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
            include=tuple(map(Path, self._wish["include"])) if is_handler(str(source)) else (),
            python=self._wish["python"],
            actor=actor,
            start_worker=self._workers.start,
            start_reader=self._workers.start_reader,
            may_convert=may_convert,
            progress=_progress,
        )
        if worker is not None:
            self._workers.hand_over(worker, result.version.digest)
        return result.version

    def _wants(self, deployment: Deployment) -> None:
        existing = {one.name: one for one in self._store.deployments()}
        current = existing.get(deployment.name)
        # Limits that nobody asked for now stay as they were set.
        limits = current.limits if current and deployment.limits == Limits() else deployment.limits
        wished = dataclasses.replace(deployment, limits=limits, revision=current.revision if current else 0)
        if wished != current:
            self._store.put_deployment(wished, actor=_ACTOR, why="towline serve")
        if self._names is not None:
            self._names.add(deployment.name)

    def _watch(self) -> None:
        if self._configured.poll():
            gone = self._watchers.keys() - self._set_watchers().keys()
            self._store.change_deployments(dict.fromkeys(gone), actor=_ACTOR, why="model configuration file")
            if self._names is not None:
                self._names -= gone
        for watcher in self._watchers.values():
            deployment = watcher.look()
            if deployment is not None:
                self._wants(deployment)

    # Folders

    def _set_watchers(self) -> dict[str, Watcher]:
        """Of the folders that are to be watched now; one that stays goes on with what it has seen."""
        folders = {Path(folder).name: Watched(Path(folder).name, Path(folder)) for folder in self._wish["watch"]} | self._configured.folders
        before, self._watchers = self._watchers, {}
        for name, watched in folders.items():
            watcher = before.get(name)
            if watcher is None or watcher.watched.folder != watched.folder:
                watcher = Watcher(watched, self._store, self._imports)
            watcher.watched = watched
            self._watchers[name] = watcher
        return self._watchers

    def _bring_in_folder(self, name: str, base_path: str, policy: Policy) -> tuple[int, ...]:
        """What a client's configuration needs of a folder is imported now; what else is in it, when it is looked at.

        What is known to be refused counts as not there, unless it is asked for by its number.
        """
        check_path(name, base_path, self._configured.paths)
        found = {number: Numbered(name, number, one) for number, one in scan(Path(base_path)).items()}
        usable = tuple(number for number, one in found.items() if number in policy.numbers or self._imports.refusal(one) is None)
        missing = set(chosen_numbers(policy, usable, {})) - set(self._store.numbers(name))
        if not all(self._imports.bring_in(found[number]) for number in sorted(missing, reverse=True)):
            raise BeingConverted(name)
        return usable

    def _keep_configuration(self, models: Sequence[Mapping[str, Any]], actor: str) -> None:
        told = [dict(model) for model in models if model["base_path"]]
        if self._store.append(Event(_RELOADED, actor, self._clock.time(), data={"models": told})) is None:
            raise Overloaded("The configuration was replaced too often within a minute.", code="RELOADED_TOO_OFTEN", retry_after_s=60.0)
        self._configured.replace({model["name"]: model for model in told})
        self._set_watchers()

    def _take_over_configuration(self) -> None:
        """What a client made of it since this server started."""
        for event in self._store.events(kind=_RELOADED, limit=1):
            if event.at_s >= self._wish["started_s"]:
                self._configured.replace({model["name"]: model for model in event.data["models"]})

    def _publish(self) -> None:
        """Tell the front what to serve, when the store changed and the answer is another one."""
        trial = self._control.trial
        seen = self._store.change_token(), self._names and frozenset(self._names), self._is_complete, trial
        if seen == self._seen:
            return
        models = desired_models(self._store, self._names, trial)
        stored = list(self._store.names())
        table = {"to": "front", "do": "table", "models": models, "stored": stored, "complete": self._is_complete}
        if table != self._sent:
            self._send(table)
            self._sent = table
        self._seen = seen

    # What the front tells

    def _heed(self, letter: Letter) -> None:
        message, descriptors = letter
        match message.get("do"):
            case "control":
                self._control.take(message, descriptors)
                return
            case "event":
                self._record(message)
            case "state":
                self._guarded(lambda: self._state.write(message["models"]))
                if self._sent is not None and self._seen is not None and self._seen[-1] == self._control.trial:
                    self._control.look(message["models"], self._sent["models"])
            case "exited" | "born":
                self._workers.remember(message)
            case "front-started":
                # It has nothing yet; the supervisor gives it the last table, this one is for what changed since.
                self._seen, self._sent = None, None
        for descriptor in descriptors:
            os.close(descriptor)

    def _record(self, message: dict[str, Any]) -> None:
        event = Event(
            message["kind"], _ACTOR, self._clock.time(), name=message["name"], digest=message["digest"], data=message.get("data", {})
        )
        try:
            self._store.append(event)
        except TowlineError as error:
            # A full disk must not end the controller; the log has what the store could not take.
            log.error("event %s of %s could not be stored: %s", event.kind, event.name, error)

    def _send(self, message: dict[str, Any]) -> None:
        self._inbox.send(message)


class StateFile:
    """HOME/run/server-PID.json, which `towline ps` reads; believed while the lock beside it is held. PID is the supervisor's."""

    def __init__(self, folder: Path, url: str, grpc_url: str | None, clock: SystemClock) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._only = _locked(folder / "controller.lock")
        self._file = folder / f"server-{os.getppid()}.json"
        self._lock = _locked(self._file.with_suffix(".lock"))
        self._url, self._grpc_url = url, grpc_url
        self._started_s = clock.time()
        self.write([])

    def write(self, models: list[dict[str, Any]]) -> None:
        content = {
            "schema": "towline.server/1",
            "pid": os.getppid(),
            "url": self._url,
            "grpc_url": self._grpc_url,
            "started_s": self._started_s,
            "models": models,
        }
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content))
        temporary.rename(self._file)

    def remove(self) -> None:
        for path in (self._file, self._file.with_suffix(".lock")):
            path.unlink(missing_ok=True)


def _locked(path: Path) -> int:
    """Hold an exclusive lock for as long as this process lives. Raises Conflict with the holder's pid."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # A controller that is being replaced lets go a moment after its successor starts.
    until = time.monotonic() + 2.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(descriptor)
                raise Conflict(
                    f"Another server uses this home already (pid {holder}).",
                    code="HOME_IN_USE",
                    hint="Stop it, or give this one a home of its own: --home DIR",
                    kind=Kind.USAGE,
                ) from None
            time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getppid()).encode(), 0)
    return descriptor


def _is_file(ref: str) -> bool:
    """A path, rather than a name: it has a separator, a model file's ending, or a file of that name is here; or a handler."""
    return is_handler(ref) or os.sep in ref or ref.endswith(".onnx") or Path(ref).is_file()


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def _progress(line: str) -> None:
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        # Whoever read it has gone (`towline serve 2>&1 | head`); the import goes on.
        pass


def main(argv: list[str]) -> None:
    end, wish = socket.socket(fileno=int(argv[0])), json.loads(argv[1])
    become("towline-control", parent=os.getppid())
    ignore_signals_of_the_terminal()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    controller: Controller | None = None
    try:
        store = open_store(Path(wish["home"]))
        controller = Controller(end, wish, store, is_successor=int(argv[2]) > 1)
        controller.run()
    except TowlineError as error:
        code = _EXIT_CODES.get(error.kind, 1)
        channel.send(end, {"to": "supervisor", "do": "fatal", "exit_code": code, "error": error.message, "hint": error.hint})
    except (BrokenPipeError, ConnectionResetError):
        # The supervisor is gone, and so is the reason to be here.
        pass
    finally:
        if controller is not None:
            controller._state.remove()


if __name__ == "__main__":
    main(sys.argv[1:])
