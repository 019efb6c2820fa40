"""Work of a worker that lets every other process and thread go first: what comes and goes disturbs no model that answers meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

Result = TypeVar("Result")

# Of setpriority(2), where 0 is usual and 19 the least.
POLITE = 10


def at_once(work: Callable[[], Result]) -> Result:
    return work()


def politely(work: Callable[[], Result]) -> Result:
    """Do `work` in a thread of its own, since a thread may lower its priority but not raise it again."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def thread() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), POLITE)
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    own = threading.Thread(target=thread, daemon=True, name="towline-load")
    own.start()
    own.join()
    if failed:
        raise failed[0]
    return done[0]


def leave() -> NoReturn:
    """End the process. Giving back a large model's memory takes long, and whichever thread is last does it."""
    for thread in os.listdir("/proc/self/task"):
        # One that has just ended has no priority to lower.
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread), POLITE)
    os._exit(0)
