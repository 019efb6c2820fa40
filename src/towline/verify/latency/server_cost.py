"""Read from /proc what a server on this machine costs: processor time and memory of all its processes. Linux."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

# CPUCLOCK_SCHED of clock_getcpuclockid(3): a whole process to the nanosecond, threads that have ended included.
_SCHED_CLOCK = 2
_LISTENING = "0A"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cost:
    """Microseconds of processor per answered request, and resident memory summed over the server's processes at the end."""

    cpu_us: float
    resident_bytes: int
    processes: int


@dataclass(frozen=True)
class Usage:
    """What a server's processes have used until a moment of the monotonic clock. Shared pages count in each process."""

    at_s: float
    cpu_s: dict[int, float]
    resident_bytes: int


def cost_between(before: Usage | None, after: Usage | None, answered: int) -> Cost | None:
    """None when the server is not on this machine, or nothing was answered. What has ended since took its processor time with it."""
    if before is None or after is None or not answered:
        return None
    used_s = sum(cpu_s - before.cpu_s.get(pid, 0.0) for pid, cpu_s in after.cpu_s.items())
    return Cost(used_s / answered * 1e6, after.resident_bytes, len(after.cpu_s))


def listeners(ports: set[int]) -> frozenset[int]:
    """The processes that hold a listening TCP socket on some ports of this machine. Empty when they are not ours to see.

    It looks at every descriptor of every process, which is dear: once per server, not once per window.
    """
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(ports)}
    return frozenset(pid for pid in _pids() if wanted & _descriptors(pid)) if wanted else frozenset()


def with_descendants(roots: set[int], parents: dict[int, int]) -> frozenset[int]:
    """`roots` and every process below one. Pure."""
    chosen = set(roots)
    while found := {pid for pid, parent in parents.items() if parent in chosen} - chosen:
        chosen |= found
    return frozenset(chosen)


def usage(roots: frozenset[int]) -> Usage | None:
    """What some processes and all they started have used so far; None of none."""
    if not roots:
        return None
    pids = with_descendants(set(roots), {pid: _parent_of(pid) for pid in _pids()})
    cpu_s, resident = {}, 0
    for pid in pids:
        try:
            cpu_s[pid] = time.clock_gettime_ns((~pid << 3) | _SCHED_CLOCK) / 1e9
            with open(f"/proc/{pid}/statm", "rb") as file:
                resident += int(file.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            continue
    return Usage(time.monotonic(), cpu_s, resident)


def _listening_inodes(ports: set[int]) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        found |= {row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) in ports}
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _descriptors(pid: int) -> set[str]:
    try:
        return {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    except OSError:
        # Gone, a descriptor closed meanwhile, or somebody else's.
        return set()


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0
