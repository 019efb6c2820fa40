"""The children that this process has: who died, who is left, and whether it was for want of memory. Linux."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from towline.core.process import is_child_of_ours

_PAUSE_S = 0.01


def reap(on_death: Callable[[int, int], None]) -> bool:
    """Call `on_death` with pid and exit code (minus the signal's number) of each child that has died; whether any is left."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return True
            on_death(pid, os.waitstatus_to_exitcode(status))
    except ChildProcessError:
        return False


def end_all(forget: Callable[[int, int], None], *, patience_s: float) -> None:
    """Wait until none is left; whoever is after `patience_s` seconds is killed. `forget` is called as `reap` calls it."""
    until = time.monotonic() + patience_s
    while reap(forget) and time.monotonic() < until:
        time.sleep(_PAUSE_S)
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if is_child_of_ours(pid):
            os.kill(pid, signal.SIGKILL)
    while reap(forget):
        time.sleep(_PAUSE_S)


class MemoryKills:
    """How many processes the kernel has killed for memory, whosever they were."""

    def __init__(self) -> None:
        self._seen = _oom_kills()

    def are_more(self) -> bool:
        """Than at the last look."""
        before, self._seen = self._seen, _oom_kills()
        return self._seen > before


def _oom_kills() -> int:
    try:
        with open("/proc/vmstat") as file:
            return int(next((line.split()[1] for line in file if line.startswith("oom_kill ")), 0))
    except OSError:
        return 0
