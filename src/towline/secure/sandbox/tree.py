"""A file tree that holds only what may be read, read-only, and the folders that may be written. Anything else is not there at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from towline.secure.sandbox.syscalls import (
    MOUNT_NO_DEVICES,
    MOUNT_NO_SUID,
    MOUNT_READ_ONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    NEW_NAMESPACE,
    detach,
    mount,
    pivot_root,
    restrict_mount,
    unshare,
)

_OLD = "/.outside"


def build(reads: Sequence[str], writes: Sequence[str], devices: Sequence[str]) -> None:
    """Give this process mounts of its own, and another root. Called by the first process of a new process namespace, as its root.

    A path through links is there under the name it was given and under its own.
    """
    # Not before: a new root is the root of every process that shares the mounts.
    unshare(NEW_NAMESPACE)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    # Any folder will do to mount the new root on: seen from the old root afterwards, it is what it was.
    base = writes[0] if writes else "/usr"
    mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    os.mkdir(base + _OLD)
    pivot_root(base, base + _OLD)
    os.chdir("/")
    placed = _Placed()
    for path in sorted(_names(reads), key=len):
        placed.bind(path, MOUNT_READ_ONLY | MOUNT_NO_SUID | MOUNT_NO_DEVICES)
    for path in devices:
        placed.bind(path, MOUNT_READ_ONLY | MOUNT_NO_SUID)
    for path in _names(writes):
        placed.bind(path, MOUNT_NO_SUID | MOUNT_NO_DEVICES, anew=True)
    os.makedirs("/proc", exist_ok=True)
    # While the old one is still mounted: the kernel gives a new view of /proc only to those who could see all of it.
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    detach(_OLD)
    os.rmdir(_OLD)
    # Not what is mounted in it, of which some may be written.
    restrict_mount("/", MOUNT_READ_ONLY | MOUNT_NO_SUID | MOUNT_NO_DEVICES, beneath=False)


def _names(paths: Sequence[str]) -> list[str]:
    """Each path as given and as it is without links, both normal."""
    found = []
    for path in paths:
        inside = Path(_OLD + path)
        if os.path.lexists(inside):
            found += [os.path.normpath(path), _real(path)]
    return list(dict.fromkeys(found))


def _real(path: str) -> str:
    """Where a path leads, read link by link beneath the old root: an absolute link there means the old root, too."""
    done, ahead, hops = "/", [part for part in path.split("/") if part], 0
    while ahead:
        part = ahead.pop(0)
        if part == "..":
            done = os.path.dirname(done)
            continue
        there = os.path.join(done, part)
        if os.path.islink(_OLD + there) and hops < 40:
            hops += 1
            target = os.readlink(_OLD + there)
            ahead = [word for word in target.split("/") if word and word != "."] + ahead
            done = "/" if target.startswith("/") else done
        else:
            done = there
    return done


class _Placed:
    """What is in the new tree so far."""

    def __init__(self) -> None:
        self._paths: list[str] = []

    def bind(self, path: str, attributes: int, *, anew: bool = False) -> None:
        """`anew`: even where it is there already as a part of something else, with other attributes."""
        if not anew and any(path == known or path.startswith(known + "/") for known in self._paths):
            return
        source = _OLD + _real(path)
        if not os.path.exists(source):
            return
        if not os.path.lexists(path):
            _make_like(source, path)
        mount(source, path, flags=MS_BIND | MS_REC)
        restrict_mount(path, attributes)
        self._paths.append(path)


def _make_like(source: str, path: str) -> None:
    """Something to mount on."""
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
