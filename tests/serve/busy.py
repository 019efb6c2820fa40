"""What a busy machine adds to a time that is measured on it: how long a process that could run waited for a core. Linux."""

from __future__ import annotations

from pathlib import Path


def kept_waiting_s(*pids: int | str) -> float:
    """Of the main thread of each process, since it began, in seconds; `self` is the one that asks."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) for pid in pids) / 1e9
