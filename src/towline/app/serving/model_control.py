"""Carry out what clients ask of the models that are served: try it in the front first, and write it down once it is ready."""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from towline.app.serving.wishes import BeingConverted, BringIn, Wished, check_watched, wish_to_load, wish_to_replace, wish_to_unload
from towline.core.clock import Clock
from towline.core.errors import DeadlineExceeded, InvalidRequest, TowlineError, VersionError
from towline.core.event import Event
from towline.core.refs import check_model_name
from towline.core.store import Store

log = logging.getLogger("towline.controller")

_MAX_ANSWERS = 64
_REPORT_EVERY_S = 1.0
_MODEL_FILE = "model.onnx"
_WHY = "model control"
_LOADED = ("new", "loading", "warming", "ready")

# A file, a name, a number and an actor: imports it and hands its worker to the front.
Import = Callable[[Path, str, int, str], None]


@dataclass(frozen=True)
class Rules:
    """What the server was started with.

    `watched` tells which models a folder decides about. `bring_in` imports what a replaced configuration needs of a folder; `keep`
    keeps it, once it is ready and before it is written down, for the looks and the controllers that follow.
    """

    load_timeout_s: float
    watched: Callable[[], Collection[str]]
    bring_in: BringIn
    keep: Callable[[Sequence[Mapping[str, Any]], str], None]
    loose_labels: bool = False


@dataclass
class _Change:
    """One question under way. While `wished` is tried, the front serves it as if it were written down already."""

    id: str
    actor: str
    ask: Mapping[str, Any]
    descriptor: int | None = None
    wished: Wished = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    began_s: float = 0.0
    asked_s: float = 0.0


class ModelControl:
    """`send` reaches the front. One change is tried at a time; others wait their turn.

    A change that is answered is on disk; one that is not has left no trace but, perhaps, a version nobody serves. Killed in between,
    the controller that follows knows of nothing, and is asked again.
    """

    def __init__(self, store: Store, send: Callable[[dict[str, Any]], None], import_file: Import, rules: Rules, clock: Clock) -> None:
        self._store = store
        self._send = send
        self._import_file = import_file
        self._rules = rules
        self._clock = clock
        self._waiting: deque[_Change] = deque()
        self._current: _Change | None = None
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict()

    @property
    def trial(self) -> Wished:
        """What the front shall serve instead of what is written down."""
        return self._current.wished if self._current is not None else {}

    def take(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        """A question, perhaps for the second time: it is known by its id."""
        own = str(message["id"])
        known = [change.id for change in (*self._waiting, *([self._current] if self._current else []))]
        if own in self._answers or own in known:
            for descriptor in descriptors:
                os.close(descriptor)
            if own in self._answers:
                self._send(self._answers[own])
            return
        self._waiting.append(_Change(own, str(message["actor"]), message["ask"], next(iter(descriptors), None)))

    def step(self) -> None:
        """Begin the next change when none is under way; called often, and before the table is published.

        One that needs what is still being converted is put behind the others.
        """
        for _ in range(len(self._waiting)):
            if self._current is not None:
                return
            change = self._waiting.popleft()
            try:
                self._begin(change)
            except BeingConverted:
                self._waiting.append(change)
                continue
            except (TowlineError, OSError) as error:
                self._refuse(change, error)
            if change.descriptor is not None:
                os.close(change.descriptor)

    def look(self, reported: list[dict[str, Any]], published: list[dict[str, Any]]) -> None:
        """Compare what the front reports with what was published: done, refused, or not yet."""
        change = self._current
        if change is None:
            return
        try:
            numbers = _progress(change.wished, reported, published)
            if numbers is not None:
                if change.ask["verb"] == "reload":
                    self._rules.keep(change.ask["models"], change.actor)
                self._store.change_deployments(change.wished, actor=change.actor, why=_WHY)
                self._end(change, {"numbers": numbers, "notes": list(change.notes)})
        except (TowlineError, OSError) as error:
            self._refuse(change, error)

    def keep_time(self) -> None:
        """A report may have been lost, and a load may never end."""
        change, now_s = self._current, self._clock.monotonic()
        if change is None:
            return
        if now_s - change.began_s > 2 * self._rules.load_timeout_s:
            self._refuse(change, DeadlineExceeded("It was not ready in the time that a load may take; what was served before goes on."))
        elif now_s - change.asked_s > _REPORT_EVERY_S:
            change.asked_s = now_s
            self._send({"to": "front", "do": "report"})

    # One change

    def _begin(self, change: _Change) -> None:
        wished = self._wish(change)
        if change.ask["verb"] != "reload":
            check_watched(wished, self._store, frozenset(self._rules.watched()))
        change.wished = wished
        change.began_s = self._clock.monotonic()
        if wished:
            self._current = change
        else:
            self._end(change, {"numbers": [], "notes": []})

    def _wish(self, change: _Change) -> Wished:
        ask = change.ask
        match ask["verb"]:
            case "load":
                return self._wish_to_load(change, check_model_name(str(ask["name"])))
            case "unload":
                return wish_to_unload(self._store, check_model_name(str(ask["name"])))
            case _:
                return wish_to_replace(self._store, ask["models"], self._rules.bring_in, loose_labels=self._rules.loose_labels)

    def _wish_to_load(self, change: _Change, name: str) -> Wished:
        from towline.convert.triton_config import numbers_for, read_triton_config

        ask = change.ask
        config = read_triton_config(ask["config"], name) if ask["config"] else None
        sent: tuple[int, ...] = ()
        if ask["files"] and change.descriptor is not None:
            names = [str(file) for file, _ in ask["files"]]
            sent = numbers_for(config.policy if config else None, numbers_sent(names))
            self._import_sent(change, name, sent, change.descriptor)
        if config is not None:
            change.notes = config.notes
            for note in config.notes:
                log.info("%s: ignored in its configuration: %s", name, note)
        return {name: wish_to_load(self._store, name, ask, config, sent)}

    def _import_sent(self, change: _Change, name: str, numbers: tuple[int, ...], descriptor: int) -> None:
        with self._store.stage() as folder, open(os.dup(descriptor), "rb") as content:
            content.seek(0)
            for file, size_bytes in change.ask["files"]:
                _put(folder / file, content.read(int(size_bytes)), is_base64=bool(change.ask["base64"]))
            for number in numbers:
                self._import_file(folder / str(number) / _MODEL_FILE, name, number, change.actor)

    def _end(self, change: _Change, answer: dict[str, Any]) -> None:
        self._answer(change, {"answer": answer})

    def _refuse(self, change: _Change, error: TowlineError | OSError) -> None:
        """Nothing was written down: what the front tries is given up, and what answered before goes on."""
        if isinstance(error, OSError):
            log.error("a change could not be made: %s", error)
            error = TowlineError(f"The server's disk refuses: {error.strerror}.", code="DISK")
        self._record_refusal(change, error)
        said = {name: getattr(error, name) for name in ("message", "code", "field", "hint", "retry_after_s")}
        self._answer(change, {"error": {**said, "kind": error.kind.value}})

    def _answer(self, change: _Change, content: dict[str, Any]) -> None:
        if self._current is change:
            self._current = None
        message = {"to": "front", "do": "control-answer", "id": change.id, **content}
        self._answers[change.id] = message
        while len(self._answers) > _MAX_ANSWERS:
            self._answers.popitem(last=False)
        self._send(message)

    def _record_refusal(self, change: _Change, error: TowlineError) -> None:
        # A name that nobody knows is a stranger's word: it becomes no name in the log of events.
        name = str(change.ask.get("name", ""))
        told = {"asked": str(change.ask["verb"]), "code": error.code, "error": error.message}
        try:
            is_known = bool(name) and bool(self._store.numbers(name))
            event = Event("deployment.refused", change.actor, self._clock.time(), name=name if is_known else "", why=_WHY, data=told)
            self._store.append(event)
        except TowlineError as unstored:
            log.error("a refused change could not be recorded: %s", unstored)


def numbers_sent(files: list[str]) -> tuple[int, ...]:
    """The versions among files named `N/…`, ascending. Raises InvalidRequest for one without a model."""
    numbers = tuple(sorted({int(file.partition("/")[0]) for file in files}))
    for number in numbers:
        if f"{number}/{_MODEL_FILE}" not in files:
            raise InvalidRequest(
                f"Version {number} was sent without its model.",
                code="MODEL_FILE_MISSING",
                field=f"parameters.file:{number}",
                hint=f"Send it as file:{number}/{_MODEL_FILE}.",
            )
    return numbers


def _put(path: Path, content: bytes, *, is_base64: bool) -> None:
    """`path` is made of a checked name, in a folder of our own."""
    if is_base64:
        try:
            content = base64.b64decode(content, validate=True)
        except binascii.Error:
            field = f"parameters.file:{path.parent.name}/{path.name}"
            raise InvalidRequest("A file is not base64.", code="BAD_BASE64", field=field) from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except (FileExistsError, NotADirectoryError):
        raise InvalidRequest(f"'{path.name}' is sent as a file and as a folder.", code="BAD_FILE_NAME", field="parameters") from None


def _progress(wished: Wished, reported: list[dict[str, Any]], published: list[dict[str, Any]]) -> list[int] | None:
    """The numbers that answer now; None while something is not as wished. Raises VersionError when a version failed."""
    states = {(one["name"], one["version"], one["digest"]): one for one in reported}
    served: list[int] = []
    is_done = True
    for name, deployment in wished.items():
        if deployment is None:
            is_done = is_done and not any(one["name"] == name and one["state"] in _LOADED for one in reported)
            continue
        entry = next((model for model in published if model["name"] == name), None)
        for version in entry["versions"] if entry else ():
            state = states.get((name, version["number"], version["digest"]), {"state": "new"})
            if state["state"] == "failed":
                raise VersionError(f"{name}:{version['number']} could not be loaded: {state['error']}", code="LOAD_FAILED")
            is_done = is_done and state["state"] == "ready"
            served.append(version["number"])
        is_done = is_done and entry is not None and entry["default"] is not None
    return sorted(served) if is_done else None
