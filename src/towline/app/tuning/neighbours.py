"""How much of this machine's processor others use while something is measured: what they take is missing from every figure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Columns of /proc/stat in which a core did nothing: idle, and waiting for a disk.
_IDLE = (3, 4)
# Guests are counted in user time already.
_COLUMNS = 8


@dataclass(frozen=True)
class Look:
    """Seconds: on the clock, that the cores were busy, and that our own processes used of that."""

    at_s: float
    busy_s: float
    own_s: float


def look(workers_s: Callable[[], float]) -> Look | None:
    """Now; `workers_s` tells the processor seconds of our workers. None where the system does not tell."""
    try:
        stat = Path("/proc/stat").read_text(encoding="ascii")
    except OSError:
        return None
    return Look(time.monotonic(), busy_s(stat, os.sched_getaffinity(0)), time.process_time() + workers_s())


def busy_s(stat: str, cores: Collection[int]) -> float:
    """Seconds that these cores were busy since the machine started, of a /proc/stat. Pure."""
    ticks = 0
    for line in stat.splitlines():
        name, *columns = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            ticks += sum(int(value) for place, value in enumerate(columns[:_COLUMNS]) if place not in _IDLE)
    return ticks / _TICKS_PER_S


def others_cores(before: Look | None, after: Look | None) -> float:
    """How many cores others kept busy between two looks, on average; 0 where that is not known."""
    if before is None or after is None or after.at_s <= before.at_s:
        return 0.0
    return max(0.0, (after.busy_s - before.busy_s) - (after.own_s - before.own_s)) / (after.at_s - before.at_s)
