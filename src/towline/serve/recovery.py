"""Decide what becomes of the requests of a worker that died, and when to try the next one. Pure."""

from __future__ import annotations

import signal
from enum import Enum

# A request is run so often again after its worker was killed from outside.
MAX_RETRIES = 3
# How long a run that was asked to stop may go on before its worker is killed.
TERMINATE_GRACE_S = 1.0
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL})
_BACK_OFF_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


class Fate(Enum):
    RETRY = "run again with others"
    SUSPECT = "run again, alone"
    QUARANTINE = "this input kills the engine"
    GIVE_UP = "answered 503"
    OUT_OF_MEMORY = "answered 507"


def is_crash(signal_number: int) -> bool:
    """The engine failed on what it was given, as opposed to being killed from outside."""
    return signal_number in _CRASHES


def fate(*, signal_number: int, was_alone: bool, tries: int, may_repeat: bool, out_of_memory: bool) -> Fate:
    """What to do with one request that was running. `tries` counts how often it has died with a worker, this time included."""
    if not may_repeat:
        return Fate.GIVE_UP
    if is_crash(signal_number):
        # One that was alone is guilty. Of several, each is tried alone: bisecting 64 would cost 7 crashes, this costs one.
        return Fate.QUARANTINE if was_alone else Fate.SUSPECT
    if tries <= MAX_RETRIES:
        return Fate.RETRY
    return Fate.OUT_OF_MEMORY if out_of_memory else Fate.GIVE_UP


def back_off_s(failures: int) -> float:
    """Seconds to wait before the next attempt to load, after this many failures in a row."""
    return _BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)]


def fits(*, needed_bytes: int, available_bytes: int | None) -> bool:
    """May a load be tried? Unknown available memory is not held against it."""
    return available_bytes is None or needed_bytes <= available_bytes


def has_overrun(*, now_s: float, deadline_s: float, unwanted_since_s: float) -> bool:
    """Is a run to be ended with its worker? Only past its deadline: a client that leaves early must not cost the others their worker."""
    return now_s - max(unwanted_since_s, deadline_s) > TERMINATE_GRACE_S
