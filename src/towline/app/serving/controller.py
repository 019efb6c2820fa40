"""Main of the controller: the server's only writer of the store. It may be down without stopping answers.

    python -m towline.app.serving.controller CHANNEL_FD WISH_JSON LAUNCH
LAUNCH counts from 1; a later one is a successor, which takes over what the first was asked for.
It imports what the command line named, tells the front what to serve whenever the store changes, and records what the front reports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from towline.app.importing.model import name_of
from towline.app.serving.desired import check_names, deployment_for, together, version_meant
from towline.app.serving.folder_imports import FolderImports
from towline.app.serving.folders import Folders
from towline.app.serving.importer import Importer
from towline.app.serving.inbox import Inbox, Letter
from towline.app.serving.model_control import ModelControl, Rules
from towline.app.serving.spawning import ForkedWorkers
from towline.app.serving.state_file import StateFile
from towline.app.serving.table import Table
from towline.app.sources import is_handler
from towline.core import channel
from towline.core.clock import SystemClock
from towline.core.deployment import Deployment, Limits
from towline.core.errors import Kind, TowlineError
from towline.core.event import Event
from towline.core.process import become, ignore_signals_of_the_terminal
from towline.core.refs import parse_ref
from towline.core.store import Store
from towline.store.sqlite import open_store

log = logging.getLogger("towline.controller")

_POLL_S = 0.25
_EXIT_CODES = {Kind.USAGE: 2, Kind.NOT_FOUND: 4, Kind.CONFLICT: 5, Kind.MISSING_EXTRA: 6, Kind.DEADLINE: 8}
_ACTOR = "server"


class Controller:
    def __init__(self, end: socket.socket, wish: dict[str, Any], store: Store, *, is_successor: bool) -> None:
        self._inbox = Inbox(end)
        self._wish = wish
        self._store = store
        self._clock = SystemClock()
        self._workers = ForkedWorkers(self._inbox, wish["max_request_bytes"])
        self._importer = Importer(store, self._workers, include=tuple(map(Path, wish["include"])), python=wish["python"])
        # None: everything the store deploys, so that what clients loaded is there again after a restart.
        has_wishes = wish["refs"] or wish["watch"] or wish["tfserving"]["config_file"] or wish["tfserving"]["base_path"]
        self._names: set[str] | None = set() if has_wishes and wish["model_control"] == "none" else None
        self._folders = Folders(wish, store, self._clock, FolderImports(Path(wish["home"]), self._import))
        if is_successor:
            self._folders.take_over(wish["started_s"])
        loose_labels = wish["tfserving"]["loose_labels"]
        rules = Rules(wish["load_timeout_s"], lambda: self._folders.names, self._folders.present, self._folders.replace, loose_labels)
        self._table = Table(store, self._inbox.send)
        self._control = ModelControl(store, self._inbox.send, self._import_sent, rules, self._clock)
        self._is_successor = is_successor
        # Everything the command line named is there.
        self._is_complete = False
        self._complaint = ""
        self._state = StateFile(Path(wish["home"]) / "run", wish["url"], wish["grpc_url"], self._clock)

    def run(self) -> None:
        self._deploy([ref for ref in self._wish["refs"] if not (self._is_successor and self._take_over(ref))])
        self._is_complete = True
        while True:
            if self._folders.is_due():
                self._guarded(self._watch)
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

    def close(self) -> None:
        """`towline ps` is to list this server no more."""
        self._state.remove()

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
        wished = together(deployment_for(ref, version_meant(self._store, ref)) for ref in parsed)
        check_names(files, [name_of(file) for file in files], wished)
        for deployment in wished.values():
            self._wants(deployment)
        for file in files:
            self._import(file, None, None, self._wish.get("given", {}))

    def _import_sent(self, source: Path, name: str, number: int, actor: str) -> None:
        """What a client sent. Not published: a worker that no table needs would be let go of, and the one that needs it comes next."""
        self._importer.bring_in(source, name, number, actor=actor, may_convert=False)

    def _import(self, source: str | Path, name: str | None, number: int | None, given: Mapping[str, str] = MappingProxyType({})) -> None:
        version = self._importer.bring_in(source, name, number, given, actor=_ACTOR)
        if number is None:
            self._wants(deployment_for(parse_ref(version.name), version))
        self._publish()

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
        if gone := self._folders.read_again():
            self._store.change_deployments(dict.fromkeys(gone), actor=_ACTOR, why="model configuration file")
            if self._names is not None:
                self._names -= gone
        for deployment in self._folders.look():
            self._wants(deployment)

    def _publish(self) -> None:
        self._table.publish(self._names, self._control.trial, is_complete=self._is_complete)

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
                if (asked := self._table.asked_with(self._control.trial)) is not None:
                    self._control.look(message["models"], asked)
            case "exited" | "born":
                self._workers.remember(message)
            case "front-started":
                # It has nothing yet; the supervisor gives it the last table, the next one is for what changed since.
                self._table.forget()
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


def _is_file(ref: str) -> bool:
    """A path, rather than a name: it has a separator, a model file's ending, or a file of that name is here; or a handler."""
    return is_handler(ref) or os.sep in ref or ref.endswith(".onnx") or Path(ref).is_file()


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
        # It may be gone as well, which is then why: a reader or worker of ours ended with it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            channel.send(end, {"to": "supervisor", "do": "fatal", "exit_code": code, "error": error.message, "hint": error.hint})
    except (BrokenPipeError, ConnectionResetError):
        # The supervisor is gone, and so is the reason to be here.
        pass
    finally:
        if controller is not None:
            controller.close()


if __name__ == "__main__":
    main(sys.argv[1:])
