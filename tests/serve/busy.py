"""What the work itself takes, on a machine that is busy with other things. Linux."""

from __future__ import annotations

from pathlib import Path


def spent_s(pid: int) -> float:
    """How long the main thread of a process has had a core, since it began, in seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
