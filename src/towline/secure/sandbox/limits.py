"""Bounds on memory, time, open files, processes and disk: set once for a program, and for its folders looked after while it runs."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence

from towline.secure.sandbox.plan import Plan

MAX_OPEN_FILES = 4096
MAX_ENTRIES = 100_000
# What a program may not leave less of on the disk that it writes to, however its own folders look: a deleted file that is open is in none.
RESERVE_BYTES = 256 << 20


def apply(plan: Plan, *, counted_alone: bool) -> None:
    """Bound this process and its children. `counted_alone`: the user's other processes are in another namespace and do not count."""
    others = 0 if counted_alone else _tasks_of(os.geteuid())
    # Memory is bounded by what is written to, not by addresses: numeric libraries reserve much that they never touch.
    _bound(resource.RLIMIT_DATA, plan.memory_bytes)
    _bound(resource.RLIMIT_FSIZE, plan.file_bytes)
    _bound(resource.RLIMIT_CPU, plan.cpu_s)
    _bound(resource.RLIMIT_NPROC, plan.processes + others)
    _bound(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _bound(resource.RLIMIT_CORE, 0)
    # Should the machine run out of memory nevertheless, this is what the kernel ends, and no server.
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _bound(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (value, value))


def _tasks_of(user: int) -> int:
    """Threads of this user on the machine, which the kernel counts together."""
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == user:
                found += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            # It has ended meanwhile.
            continue
    return found


def overfull(folders: Sequence[str], disk_bytes: int) -> str:
    """Why a program that writes to these folders has to be stopped, in words; empty while it may go on."""
    used, entries = 0, 0
    for size_bytes in _sizes(folders):
        used, entries = used + size_bytes, entries + 1
        if used > disk_bytes:
            return f"it wrote more than {disk_bytes >> 20} MiB"
        if entries > MAX_ENTRIES:
            return f"it made more than {MAX_ENTRIES} files"
    for folder in folders:
        found = os.statvfs(folder)
        if found.f_bavail * found.f_frsize < RESERVE_BYTES:
            return "the disk is nearly full"
    return ""


def _sizes(folders: Sequence[str]) -> Iterator[int]:
    """What each file and folder takes on disk, in bytes. The program may change them meanwhile."""
    waiting = list(folders)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    yield entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
