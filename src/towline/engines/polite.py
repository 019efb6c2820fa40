"""Work of a worker that lets every other process and thread go first: what comes and goes disturbs no model that answers meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

Result = TypeVar("Result")

# Of setpriority(2), where 0 is usual and 19 the least.
POLITE = 10
# How much longer than it runs such work may wait for a core while it takes only what nobody else wants, and how often that is looked at.
PATIENCE_S = 0.25
_LOOK_S = 0.05


def at_once(work: Callable[[], Result]) -> Result:
    return work()


def politely(work: Callable[[], Result], *, patience_s: float = PATIENCE_S) -> Result:
    """Do `work` in a thread of its own, since a thread may lower its priority but not raise it again."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def thread() -> None:
        _step_back()
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    own = threading.Thread(target=thread, daemon=True, name="towline-load")
    own.start()
    while own.is_alive():
        own.join(_LOOK_S)
        if own.is_alive() and own.native_id:
            _rescue(own.native_id, patience_s)
    if failed:
        raise failed[0]
    return done[0]


def may_return_from_idle() -> bool:
    """Whether a thread of ours that runs when the machine is idle may do better again: with CAP_SYS_NICE, or an RLIMIT_NICE of POLITE."""
    answers: list[bool] = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), POLITE)
            _set_policy(0, os.SCHED_IDLE)
            _set_policy(0, os.SCHED_OTHER)
            answers.append(True)

    own = threading.Thread(target=attempt, name="towline-probe")
    own.start()
    own.join()
    return bool(answers)


def leave() -> NoReturn:
    """End the process. Giving back a large model's memory takes long, and whichever thread is last does it."""
    for thread in os.listdir("/proc/self/task"):
        # One that has just ended has no priority to lower.
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread), POLITE)
    # Not only when the machine is idle: nobody is left to end that, and others wait for the memory.
    os._exit(0)


def is_starved(schedstat: str, patience_s: float) -> bool:
    """Whether a thread waits much more than it runs, by its schedstat of /proc: nanoseconds it ran, and waited for a core. Pure."""
    ran_ns, waited_ns, _ = map(int, schedstat.split())
    return waited_ns > ran_ns + patience_s * 1e9


def _step_back() -> None:
    """A low priority is hardly felt by other sessions, and who wakes waits for the end of a turn; an idle thread yields at once."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), POLITE)
    if may_return_from_idle():
        _set_policy(0, os.SCHED_IDLE)


def _rescue(thread: int, patience_s: float) -> None:
    """On a machine that is never idle it would not end: with its low priority it does."""
    try:
        starved = is_starved(Path(f"/proc/self/task/{thread}/schedstat").read_text(), patience_s)
    except OSError:
        # It has just ended, or this kernel does not tell.
        starved = True
    if starved:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            _set_policy(thread, os.SCHED_OTHER)


def _set_policy(thread: int, policy: int) -> None:
    os.sched_setscheduler(thread, policy, os.sched_param(0))
