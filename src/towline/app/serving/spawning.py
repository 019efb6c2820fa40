"""Workers for the controller: forked by the fork server like every other, tried at import, then handed to the front."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.app.serving.inbox import Inbox, Letter
from towline.core.manifest import Manifest

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker


class ForkedWorkers:
    """`start` has the supervisor's fork server make a worker. `inbox` is the controller's channel to the supervisor.

    While a worker is waited for, messages that are not about its end are kept for the controller's loop (`kept`).
    """

    def __init__(self, inbox: Inbox, max_request_bytes: int) -> None:
        self._inbox = inbox
        self._max_request_bytes = max_request_bytes
        self._exits: dict[int, dict[str, Any]] = {}
        self.kept: list[Letter] = []

    def start(self, folder: Path, manifest: Manifest, *, device: str = "cpu", timeout_s: float = 120.0) -> LocalWorker:
        # Loaded when a worker is needed: a server that only serves what it has never pays for it.
        from towline.serve.workers.local import LocalWorker
        from towline.serve.workers.pool import default_arena_size

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

    def remember(self, message: dict[str, Any]) -> None:
        """A worker ended; somebody may ask how."""
        self._exits[int(message["pid"])] = message
        if len(self._exits) > 256:
            del self._exits[next(iter(self._exits))]

    def _spawn(self, engine: str, link: socket.socket, control: socket.socket) -> ForkedProcess:
        self._inbox.send({"to": "supervisor", "do": "spawn", "engine": engine}, (link.fileno(), control.fileno()))
        return ForkedProcess(self._exit_of, self._kill)

    def _kill(self, pid: int) -> None:
        self._inbox.send({"to": "supervisor", "do": "kill", "pid": pid})

    def _exit_of(self, pid: int, timeout_s: float) -> dict[str, Any] | None:
        until = time.monotonic() + timeout_s
        while pid not in self._exits:
            letter = self._inbox.receive(max(0.0, until - time.monotonic()))
            if letter is None:
                return None
            if letter[0].get("do") == "exited":
                self.remember(letter[0])
            else:
                self.kept.append(letter)
        return self._exits[pid]


class ForkedProcess:
    """A process that is another's child, with what LocalWorker needs of one: wait and kill."""

    def __init__(self, exit_of: Callable[[int, float], dict[str, Any] | None], kill: Callable[[int], None]) -> None:
        self.pid = 0
        self._exit_of = exit_of
        self._kill = kill

    def wait(self, timeout_s: float) -> int | None:
        """The exit status as subprocess gives it (negative: a signal), None when it is not known in time."""
        found = self._exit_of(self.pid, timeout_s) if self.pid else None
        return None if found is None else -found["signal"] or found["status"]

    def kill(self) -> None:
        if self.pid:
            self._kill(self.pid)
