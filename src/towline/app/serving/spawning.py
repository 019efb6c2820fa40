"""Processes for the controller: the reader of a model and the worker that tries it, forked by the fork server like every other."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.app.serving.inbox import Inbox, Letter
from towline.convert.onnx import start_here
from towline.core.child import Child
from towline.core.errors import Unavailable
from towline.core.manifest import Manifest

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker


_BIRTH_WAIT_S = 30.0
_REMEMBERED = 256


class ForkedWorkers:
    """`start` has the supervisor's fork server make a worker. `inbox` is the controller's channel to the supervisor.

    While a process is waited for, messages that are not about births and ends are kept for the controller's loop (`kept`).
    """

    def __init__(self, inbox: Inbox, max_request_bytes: int) -> None:
        self._inbox = inbox
        self._max_request_bytes = max_request_bytes
        self._exits: dict[int, dict[str, Any]] = {}
        self._births: dict[int, int] = {}
        self._wishes = 0
        self.kept: list[Letter] = []

    def start(self, folder: Path, manifest: Manifest, *, device: str = "cpu", timeout_s: float = 120.0) -> LocalWorker:
        # Loaded when a worker is needed: a server that only serves what it has never pays for it.
        from towline.serve.workers.local import LocalWorker
        from towline.serve.workers.sizes import default_arena_size

        arena_size = default_arena_size(self._max_request_bytes)
        return LocalWorker.start(folder, manifest, device=device, timeout_s=timeout_s, spawn=self._spawn, arena_size=arena_size)

    def hand_over(self, worker: LocalWorker, digest: str) -> None:
        """Give a worker that has loaded `digest` to the front, which will warm it and serve with it."""
        given = worker.hand_over()
        message = {"to": "front", "do": "adopt", "digest": digest, "pid": given.pid, "slots": given.slots, "slot_bytes": given.slot_bytes}
        try:
            self._inbox.send(message, tuple(given.descriptors))
        finally:
            for descriptor in given.descriptors:
                os.close(descriptor)

    def start_reader(self, words: list[str], output: int, life: int) -> Child:
        """Have a model read (convert/onnx.py) by a fork of what has imported numpy already; by a new Python while there is none to fork.

        Raises Unavailable when it is not known in time whether there will be one: two would write into one file.
        """
        self._wishes = wish = self._wishes + 1
        with open(os.devnull, "wb") as nowhere:
            places = {"stdout": output, "stderr": nowhere.fileno(), "life": life}
            message = {"to": "supervisor", "do": "fork", "name": "towline-reader", "words": words, "places": list(places), "wish": wish}
            self._inbox.send(message, tuple(places.values()))
        if not self._wait_for(lambda: wish in self._births, _BIRTH_WAIT_S):
            raise Unavailable("No process could be made to read the model.", code="NO_WORKER", hint="See the server's log.")
        pid = self._births.pop(wish)
        return ForkedProcess(self._exit_of, self._kill, pid) if pid else start_here(words, output, life)

    def remember(self, message: dict[str, Any]) -> None:
        """A process was born that we wished for (pid 0: there is nobody to make it), or one ended and somebody may ask how."""
        if message["do"] == "born":
            self._births[int(message["wish"])] = int(message["pid"])
        else:
            self._exits[int(message["pid"])] = message
        for known in (self._births, self._exits):
            if len(known) > _REMEMBERED:
                del known[next(iter(known))]

    def _spawn(self, engine: str, link: socket.socket, control: socket.socket) -> ForkedProcess:
        self._inbox.send({"to": "supervisor", "do": "spawn", "engine": engine}, (link.fileno(), control.fileno()))
        return ForkedProcess(self._exit_of, self._kill)

    def _kill(self, pid: int) -> None:
        self._inbox.send({"to": "supervisor", "do": "kill", "pid": pid})

    def _exit_of(self, pid: int, timeout_s: float) -> dict[str, Any] | None:
        return self._exits[pid] if self._wait_for(lambda: pid in self._exits, timeout_s) else None

    def _wait_for(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while not holds():
            letter = self._inbox.receive(max(0.0, until - time.monotonic()))
            if letter is None:
                return False
            if letter[0].get("do") in ("born", "exited"):
                self.remember(letter[0])
            else:
                self.kept.append(letter)
        return True


class ForkedProcess:
    """A process that is another's child. `pid` may be set once it is known."""

    def __init__(self, exit_of: Callable[[int, float], dict[str, Any] | None], kill: Callable[[int], None], pid: int = 0) -> None:
        self.pid = pid
        self._exit_of = exit_of
        self._kill = kill

    def wait(self, timeout_s: float) -> int | None:
        """The exit status as subprocess gives it (negative: a signal), None when it is not known in time."""
        found = self._exit_of(self.pid, timeout_s) if self.pid else None
        return None if found is None else -found["signal"] or found["status"]

    def kill(self) -> None:
        if self.pid:
            self._kill(self.pid)
