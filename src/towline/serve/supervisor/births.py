"""Make the server's processes: by a wish to the fork server, which has imported what they need, or as a new Python."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from towline.core.interpreter import placed, worker_command

# What each is called in `top`; the fork server is never forked.
_NAMES = {"controller": "towline-control", "front": "towline-front", "fork-server": ""}
_FORKED_ENGINE = "onnxruntime"


@dataclass(frozen=True)
class Commands:
    """A module and its arguments for each process; `python` are the words before them.

    `{launch}` becomes how often it was started, `{channel}` and `{listener}` the numbers of descriptors.
    """

    python: Sequence[str]
    front: Sequence[str]
    controller: Sequence[str]
    fork_server: Sequence[str]
    worker: Sequence[str]

    def words_of(self, role: str, launch: int) -> list[str]:
        words: Sequence[str] = getattr(self, role.replace("-", "_"))
        return [str(launch) if word == "{launch}" else word for word in words]


class Births:
    """`wish` sends a message to the fork server, with descriptors beside it; it returns False when there is none."""

    def __init__(self, commands: Commands, wish: Callable[[dict[str, Any], Sequence[int]], bool]) -> None:
        self._commands = commands
        self._wish = wish
        # What we started ourselves, rather than had forked, by pid.
        self._started: dict[int, subprocess.Popen[bytes]] = {}

    def member(self, role: str, launch: int, places: Mapping[str, int]) -> int:
        """The pid of a new process; 0 when the fork server makes it, which says the pid. Raises OSError."""
        words = self._commands.words_of(role, launch)
        # The first time all start at once, and the fork server has imported much of what the others would. Later they need not
        # wait for it.
        if launch == 1 and self.fork(words, places, name=_NAMES[role], tell={"to": "supervisor", "do": "born", "role": role}):
            return 0
        return self._start([*self._commands.python, *placed(words, places)], places.values())

    def worker(self, engine: str, descriptors: Sequence[int]) -> None:
        """In the Python of its engine. Raises OSError; whoever asked sees its ends close, and asks again."""
        if engine == _FORKED_ENGINE:
            places = dict(zip(("{link}", "{control}"), descriptors, strict=True))
            self.fork([*self._commands.worker, engine, *places], places, name="towline-worker", engine=engine)
            return
        own = [*self._commands.python, *self._commands.worker]
        self._start([*worker_command(own, engine), *map(str, descriptors)], descriptors)

    def fork(
        self, words: Sequence[str], places: Mapping[str, int], *, name: str, engine: str = "", tell: Mapping[str, Any] | None = None
    ) -> bool:
        """Wish for a process (engines/forks.py says what the words are); False when there is no fork server to make it."""
        message = {"name": name, "words": list(words), "places": list(places), "engine": engine, "tell": tell}
        return self._wish(message, list(places.values()))

    def _start(self, command: Sequence[str], descriptors: Iterable[int]) -> int:
        process = subprocess.Popen(command, pass_fds=tuple(descriptors), stdin=subprocess.DEVNULL)
        self._started[process.pid] = process
        return process.pid

    def forget(self, pid: int, code: int) -> None:
        """It was reaped, by another way than Popen's own."""
        process = self._started.pop(pid, None)
        if process is not None:
            process.returncode = code
