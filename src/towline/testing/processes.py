"""Look at a server's processes from outside, through /proc. Linux."""

from __future__ import annotations

import os

ROLES = ("supervisor", "front", "controller", "fork-server", "worker")
# Where /proc shows the work of a process: in its name, or in its command line.
_NAMES = {"towline-front": "front", "towline-control": "controller", "towline-worker": "worker"}


def roles_of(supervisor: int) -> dict[str, list[int]]:
    """Role -> the processes of a server alive now, by the pid of its supervisor. Workers are those in use and those spare."""
    found: dict[str, list[int]] = {role: [] for role in ROLES}
    found["supervisor"].append(supervisor)
    for pid in _children_of(supervisor):
        role = _role_of(pid)
        if role:
            found[role].append(pid)
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of a process. Raises OSError when it is gone."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _children_of(pid: int) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent_of(int(name)) == pid]


def _parent_of(pid: int) -> int:
    """0 for a process that is gone, or is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except OSError:
        return 0
    return 0 if fields[0] == b"Z" else int(fields[1])


def _role_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            name = file.read().strip()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return ""
    # A worker that was forked keeps the fork server's command line, and has a name of its own.
    return _NAMES.get(name) or ("fork-server" if b"fork-server" in words else "")
