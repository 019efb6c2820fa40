"""The front's side of what clients may see and change of a server: asks the controller, again and again until it hears an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from towline.core.errors import DeadlineExceeded, Kind, NotFound, Overloaded, TowlineError, Unavailable
from towline.core.refs import check_model_name, clip
from towline.serve.contract import Asked, IndexEntry, Loaded, Served, VersionStatistics, WishedModel
from towline.serve.dataplane import ServingPlane
from towline.serve.slots import Slot
from towline.serve.statistics import statistics_of

log = logging.getLogger("towline.serve")

# A controller that is alive says so within a moment, whatever it is doing; a killed one is there again in two seconds.
_ASK_AGAIN_S = 1.0
_AWAY_AFTER_S = 6.0
_MAX_WAITING = 16
# Triton's words for TF Serving's.
_STATES = {"START": "LOADING", "LOADING": "LOADING", "AVAILABLE": "READY", "UNLOADING": "UNLOADING", "END": "UNAVAILABLE"}

Send = Callable[[dict[str, Any], tuple[int, ...]], None]


@dataclass
class _Waiting:
    """One question on its way. `heard_s` is when the controller last said that it has it."""

    answer: asyncio.Future[dict[str, Any]]
    heard_s: float
    nbytes: int = 0


class FrontControl:
    """The Control of serve/contract.py. `send` reaches the controller, or nobody, and never blocks; `on_message` takes what comes back.

    A question is asked again every second until it is answered: its receiver may have been killed with it, and knows it by its id.
    """

    def __init__(self, plane: ServingPlane, send: Send, *, is_allowed: bool, timeout_s: float, max_bytes: int) -> None:
        """`max_bytes` bounds the files of all questions that wait."""
        self._plane = plane
        self._max_bytes = max_bytes
        self._send = send
        self._is_allowed = is_allowed
        self._timeout_s = timeout_s
        self._stored: frozenset[str] = frozenset()
        self._waiting: dict[str, _Waiting] = {}
        # Of this front alone: what another asked for before it died is not ours.
        self._ids = (f"{os.getpid()}-{os.urandom(4).hex()}-{number}" for number in itertools.count())

    # What can be seen

    def know(self, stored: Sequence[str]) -> None:
        """The names of all models in the store, as of now."""
        self._stored = frozenset(stored)

    def repository_index(self) -> list[IndexEntry]:
        entries: list[IndexEntry] = []
        for name in sorted(self._stored | self._plane.known()):
            try:
                statuses = self._plane.status(name)
            except NotFound:
                statuses = []
            for status in statuses:
                is_gone = status.state == "END" and not status.error
                entries.append(IndexEntry(name, status.number, _STATES[status.state], "unloaded" if is_gone else status.error))
            if not statuses:
                entries.append(IndexEntry(name, None, "UNAVAILABLE", "not loaded"))
        return entries

    def statistics(self, name: str = "", number: int | None = None) -> list[VersionStatistics]:
        now_s, wall_s = time.monotonic(), time.time()
        if name:
            # The errors of whoever asks for a model that is not there.
            self._plane.find(name, number=number)
        chosen = [slot for slot in self._plane.slots() if name in ("", slot.name) and number in (None, slot.number)]
        chosen.sort(key=lambda slot: (slot.name, slot.number))
        return [statistics_of(slot, now_s=now_s, wall_s=wall_s) for slot in chosen if slot.state in ("ready", "draining")]

    def max_batch(self, served: Served) -> int:
        assert isinstance(served, Slot)
        return served.max_batch

    # What can be changed

    async def load(self, name: str, asked: Asked, *, actor: str) -> Loaded:
        self._check_allowed("load models")
        check_model_name(name)
        request: dict[str, Any] = {"verb": "load", "name": name, "number": asked.number, "alias": asked.alias, "config": asked.config}
        request["files"] = [[path, len(content)] for path, content in asked.files.items()]
        request["base64"] = asked.base64
        answer = await self._ask(request, actor, list(asked.files.values()))
        return Loaded(name, tuple(answer["numbers"]), tuple(answer["notes"]))

    async def unload(self, name: str, *, actor: str) -> None:
        self._check_allowed("unload models")
        check_model_name(name)
        await self._ask({"verb": "unload", "name": name}, actor)

    async def reload(self, models: Sequence[WishedModel], *, actor: str) -> None:
        self._check_allowed("replace the configuration")
        wished = [{**dataclasses.asdict(model), "labels": dict(model.labels)} for model in models]
        await self._ask({"verb": "reload", "models": wished}, actor)

    def _check_allowed(self, what: str) -> None:
        if not self._is_allowed:
            raise TowlineError(
                f"Clients may not {what} here.",
                code="MODEL_CONTROL_OFF",
                kind=Kind.DENIED,
                hint="The server's owner allows it with --model-control explicit.",
            )

    # To the controller and back

    def on_message(self, message: Mapping[str, Any]) -> None:
        waiting = self._waiting.get(str(message["id"]))
        if waiting is None or waiting.answer.done():
            # Its client has gone, or has been told already.
            return
        if message["do"] == "control-heard":
            waiting.heard_s = time.monotonic()
        elif "error" in message:
            waiting.answer.set_exception(_error_from(message["error"]))
        else:
            waiting.answer.set_result(dict(message["answer"]))

    async def _ask(self, request: dict[str, Any], actor: str, contents: Sequence[bytes] = ()) -> dict[str, Any]:
        nbytes = sum(map(len, contents))
        held_bytes = sum(waiting.nbytes for waiting in self._waiting.values())
        # One alone passes: what it may hold is bounded by max_request_bytes.
        if len(self._waiting) >= _MAX_WAITING or (nbytes and held_bytes and held_bytes + nbytes > self._max_bytes):
            raise Overloaded(f"{len(self._waiting)} changes wait already.", code="CONTROL_BUSY", retry_after_s=5.0)
        own = next(self._ids)
        message = {"to": "controller", "do": "control", "id": own, "actor": actor, "ask": request}
        waiting = self._waiting[own] = _Waiting(asyncio.get_running_loop().create_future(), time.monotonic(), nbytes)
        until_s = time.monotonic() + self._timeout_s
        descriptors: tuple[int, ...] = ()
        try:
            if contents:
                descriptors = (await _in_memory(contents),)
            waiting.heard_s = time.monotonic()
            while True:
                self._send(message, descriptors)
                try:
                    return await asyncio.wait_for(asyncio.shield(waiting.answer), _ASK_AGAIN_S)
                except TimeoutError:
                    _check_hope(time.monotonic(), waiting.heard_s, until_s)
        finally:
            del self._waiting[own]
            for descriptor in descriptors:
                os.close(descriptor)


def _check_hope(now_s: float, heard_s: float, until_s: float) -> None:
    if now_s - heard_s > _AWAY_AFTER_S:
        raise Unavailable(
            "The controller is away; what is served goes on. It may or may not have done this: ask again, or look at the index.",
            code="CONTROLLER_AWAY",
            retry_after_s=2.0,
        )
    if now_s > until_s:
        raise DeadlineExceeded("The controller is still busy with this.", hint="POST /v2/repository/index tells what has become of it.")


async def _in_memory(contents: Sequence[bytes]) -> int:
    """`_written` in a thread. A client that leaves meanwhile leaves no descriptor behind."""
    writing = asyncio.get_running_loop().run_in_executor(None, _written, contents)
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        writing.add_done_callback(lambda done: os.close(done.result()))
        raise


def _written(contents: Sequence[bytes]) -> int:
    """A file in memory that holds them one after the other. Runs in a thread: they may be large."""
    descriptor = os.memfd_create("towline-files", os.MFD_CLOEXEC)
    with open(os.dup(descriptor), "wb") as file:
        file.writelines(contents)
    return descriptor


def _error_from(said: Mapping[str, Any]) -> TowlineError:
    return TowlineError(
        str(said["message"]),
        code=str(said["code"]),
        field=clip(str(said["field"])),
        hint=str(said["hint"]),
        kind=Kind(said["kind"]),
        retry_after_s=said["retry_after_s"],
    )
