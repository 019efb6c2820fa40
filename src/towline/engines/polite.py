"""Work of a worker that lets every other process and thread go first: what comes and goes disturbs no model that answers meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

Result = TypeVar("Result")

# Of setpriority(2), where 0 is usual and 19 the least.
POLITE = 10
# Since Linux 6.12 a thread says how long it wants to run in one go. Usual is more than a millisecond, for which whoever wakes meanwhile may
# wait, whatever the priorities are; 0.1 ms is the least.
SLICE_NS = 100_000
# sched_setattr(2), which the C library has no function for.
_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}
# struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


def at_once(work: Callable[[], Result]) -> Result:
    return work()


def politely(work: Callable[[], Result]) -> Result:
    """Do `work` in a thread of its own, since a thread may lower its priority but not raise it again."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def thread() -> None:
        step_back(threading.get_native_id())
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
            step_back(int(thread))
    os._exit(0)


def step_back(thread: int) -> None:
    """Lower a thread's priority, and let it run for a short while at a time. An older kernel knows no such while; it takes the priority."""
    os.setpriority(os.PRIO_PROCESS, thread, POLITE)
    number = _SET_ATTRIBUTES.get(platform.machine())
    if number is not None:
        wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, POLITE, 0, SLICE_NS, 0, 0)
        # Refused within some sandboxes: then the priority has to do.
        ctypes.CDLL(None).syscall(number, thread, wanted, 0)
