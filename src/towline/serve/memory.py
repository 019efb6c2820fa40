"""How much memory a load may still take, in bytes: the least of what the machine and the control groups leave."""

from __future__ import annotations

from pathlib import Path

_V2 = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))
_V1 = (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


def available_memory_bytes() -> int | None:
    """None when the system does not tell."""
    known = [left for left in (_machine_bytes(), _group_bytes(*_V2), _group_bytes(*_V1)) if left is not None]
    return min(known, default=None)


def _machine_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _group_bytes(limit: Path, used: Path) -> int | None:
    try:
        return max(int(limit.read_text()) - int(used.read_text()), 0)
    except (OSError, ValueError):
        # No such group, or "max": no limit of its own.
        return None
