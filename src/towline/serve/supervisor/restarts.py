"""What the death of one of the server's processes means for it and for the server. Pure."""

from __future__ import annotations

import signal

_QUICK_DEATH_S = 2.0
_MAX_QUICK_DEATHS = 5
_BACK_OFF_S = (0.05, 0.1, 0.5, 1.0, 2.0)
# Before the next try, when the system had no room for a process.
NO_ROOM_PAUSE_S = _BACK_OFF_S[-1]


def quick_deaths_now(before: int, *, lived_s: float, code: int) -> int:
    """How often in a row it has died young by its own fault, after it ended with `code`, minus the signal's number if by one."""
    # Killed from outside is not its own fault, nor a reason to wait.
    is_own_fault = lived_s < _QUICK_DEATH_S and code != -signal.SIGKILL
    return before + 1 if is_own_fault else 0


def gives_up(role: str, *, quick_deaths: int, was_ready: bool) -> bool:
    """Is a process that keeps dying young a reason to end? Not once requests are answered: whoever still lives goes on."""
    return not was_ready and role != "controller" and quick_deaths > _MAX_QUICK_DEATHS


def back_off_s(quick_deaths: int) -> float:
    """Seconds before a process is started again, after so many quick deaths in a row."""
    return _BACK_OFF_S[min(quick_deaths, len(_BACK_OFF_S) - 1)]


def exit_code(stop_signal: int, *, otherwise: int) -> int:
    """What the server ends with when `stop_signal` ended it: a shell expects 130 after Ctrl-C."""
    return 130 if stop_signal == signal.SIGINT else otherwise
