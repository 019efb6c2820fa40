"""Read how much memory and processor time a process of ours has used, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessSample:
    """One process at one moment. `role` is front, worker, fork server or supervisor; model and version are a worker's."""

    role: str
    pid: int
    resident_bytes: int
    cpu_s: float
    model: str = ""
    version: str = ""


def sample_process(pid: int, role: str, *, model: str = "", version: int | str = "") -> ProcessSample | None:
    """The process now, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            resident_pages = int(file.read().split()[1])
        with open(f"/proc/{pid}/stat") as file:
            # The name in parentheses may hold anything, spaces and parentheses too: count from behind it.
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    user_ticks, system_ticks = int(fields[11]), int(fields[12])
    return ProcessSample(role, pid, resident_pages * _PAGE_BYTES, (user_ticks + system_ticks) / _TICKS_PER_S, model, str(version))
