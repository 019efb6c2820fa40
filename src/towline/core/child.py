"""A process that was started for us, whether it is our own child or was forked by another: what its starter may do with it."""

from __future__ import annotations

import subprocess
from typing import Protocol


class Child(Protocol):
    pid: int

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, negative for a signal; None when it lives on, or nobody can tell in time."""
        ...

    def kill(self) -> None: ...


class OwnChild:
    """A child of this very process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self._process.kill()
