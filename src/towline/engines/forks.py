"""The fork server: it has imported what the others need, so that they need not, and makes them by forking. Holds nothing of theirs.

    python -m towline.engines.forks fork-server CHANNEL_FD
The supervisor wishes, with descriptors beside the message:
    {"name": …, "words": [MODULE, ARGUMENT, …], "places": [WORD, …], "engine": …, "tell": …}
is a process called `name` that runs MODULE.main(ARGUMENTS). `places` name the descriptors: an argument of that name becomes the number,
`stdout` and `stderr` become the streams of that name. `engine`, unless empty, is loaded before. `tell` is sent back with the pid, unless
it is null: a worker says its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

# For those who are forked here: each would import it anew.
import towline.engines.host  # noqa: F401
from towline.core import channel
from towline.core.interpreter import placed
from towline.core.process import become, ignore_signals_of_the_terminal, settle_collector
from towline.engines.loading import load_engine

_ENGINE = "onnxruntime"

# What a process that was just forked is to do, once it has left our own frames.
Life = Callable[[], object]


class ForkServer:
    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._load = cache(load_engine)

    def work(self) -> Life | None:
        """Returns in every process that is made, with its life; in the fork server itself when the supervisor has gone, with None."""
        for received in self._wishes():
            message, descriptors = received
            if message["engine"]:
                self._load(message["engine"])
            if self._forked(message["name"], message["tell"]):
                self._end.close()
                places = dict(zip(message["places"], descriptors, strict=True))
                return lambda: _run(placed(message["words"], places), places)
            for descriptor in descriptors:
                os.close(descriptor)
        return None

    def _wishes(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        # The first were told us while we were imported, and need no engine: they start before it is loaded.
        gc.freeze()
        while select.select([self._end], [], [], 0)[0] and (received := channel.receive(self._end)):
            yield received
        # No session is made here: it would start threads, and threads do not survive a fork. The import alone saves a worker 150 ms.
        self._load(_ENGINE)
        settle_collector()
        while received := channel.receive(self._end):
            yield received

    def _forked(self, name: str, tell: dict[str, Any] | None) -> bool:
        """True in a new process, which is the supervisor's child: the supervisor learns how it died, whether or not we live."""
        middle = os.fork()
        if middle:
            os.waitpid(middle, 0)
            return False
        middle = os.getpid()
        # Before the supervisor sees it, so that nobody takes it for the fork server.
        become(name)
        child = os.fork()
        if child:
            if tell is not None:
                channel.send(self._end, tell | {"pid": child})
            os._exit(0)
        # Only when the middle one is gone is the supervisor our parent, whose death is to be ours.
        while os.getppid() == middle:
            time.sleep(0.0002)
        return True


def _run(words: list[str], places: dict[str, int]) -> Any:
    for number, stream in ((1, "stdout"), (2, "stderr")):
        if stream in places:
            os.dup2(places[stream], number)
    sys.argv = words
    return importlib.import_module(words[0]).main(words[1:])


def main(argv: list[str]) -> Any:
    become("towline-forks")
    ignore_signals_of_the_terminal()
    life: Life | None = None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        life = ForkServer(socket.socket(fileno=int(argv[1]))).work()
    return life() if life is not None else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
