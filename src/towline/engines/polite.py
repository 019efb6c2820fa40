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
# What runs for so long takes only what nobody else wants from then on, as long as it does not wait so much longer than it runs.
SHORT_S = 0.1
PATIENCE_S = 0.25
_LOOK_S = 0.05


def at_once(work: Callable[[], Result]) -> Result:
    return work()


def politely(work: Callable[[], Result]) -> Result:
    """Do `work` in a thread of its own, since a thread may lower its priority but not raise it again.

    A low priority alone lets who wakes wait for the end of a turn; what only takes idle time yields at once.
    """
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
    own.join(SHORT_S)
    if own.is_alive() and may_return_from_idle():
        while own.is_alive():
            _watch(own.native_id or 0)
            own.join(_LOOK_S)
    own.join()
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


def policy_for(schedstat: str) -> int:
    """That of sched(7) for a thread, by its /proc/PID/task/TID/schedstat: nanoseconds it ran, and waited for a core. Pure.

    On a machine that is never idle it would never end: there its low priority has to do.
    """
    ran_ns, waited_ns, _ = map(int, schedstat.split())
    is_starved = waited_ns > ran_ns + PATIENCE_S * 1e9
    return os.SCHED_OTHER if is_starved or ran_ns < SHORT_S * 1e9 else os.SCHED_IDLE


def _watch(thread: int) -> None:
    # It may have just ended, and not every kernel tells.
    with contextlib.suppress(OSError):
        policy = policy_for(Path(f"/proc/self/task/{thread}/schedstat").read_text())
        if os.sched_getscheduler(thread) != policy:
            _set_policy(thread, policy)


def _set_policy(thread: int, policy: int) -> None:
    os.sched_setscheduler(thread, policy, os.sched_param(0))
