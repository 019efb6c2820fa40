"""What each of our processes does to itself at birth. Linux."""

from __future__ import annotations

import ctypes
import gc
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
# The default of 700 collects every few dozen requests and finds nothing: requests make no cycles.
_YOUNG_OBJECTS = 20_000


def _prctl(option: int, argument: int | bytes) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)


def become(name: str, *, parent: int = 0) -> None:
    """Take a name (15 bytes) for `top`, and die by SIGKILL when the parent dies. `parent` is who it was: gone already means go too."""
    _prctl(_PR_SET_NAME, name.encode()[:15])
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Descendants whose own parent ends become our children, so that we learn how they died."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def is_child_of_ours(pid: int) -> bool:
    """Whether `pid` is a child that nobody has reaped yet, so that its number cannot mean another process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name may hold spaces and parentheses; the fields after the last one do not.
            return int(file.read().rsplit(b")", 1)[1].split()[1]) == os.getpid()
    except (OSError, ValueError, IndexError):
        return False


def settle_collector() -> None:
    """Start-up's objects live until the end: the garbage collector need not look at them again, nor look often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 50)


def ignore_signals_of_the_terminal() -> None:
    """Ctrl-C reaches every process of the terminal's group; only the supervisor decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
