"""Namespaces: a table of processes, a network and messages of one's own, in a user namespace whose limits are its own too."""

from __future__ import annotations

import os

from towline.secure.sandbox import syscalls

_OTHERS = syscalls.NEW_PROCESSES | syscalls.NEW_NETWORK | syscalls.NEW_IPC | syscalls.NEW_UTS


def enter() -> None:
    """Leave the machine's namespaces, all at once. The next child of this process is the first of its table of processes.

    Who is root outside sees every user's files as before, so that it may become nobody and still be let read them; who is not sees his own.
    Raises OSError; the process is then good for nothing else.
    """
    if os.geteuid() == 0:
        _with_all_users()
    else:
        _with_this_user()
    syscalls.unshare(_OTHERS)


def _with_this_user() -> None:
    user, group = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.NEW_USER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")


def _with_all_users() -> None:
    """Only a process outside may map more users than one, so a child stays behind for it."""
    maps = {name: _same(f"/proc/self/{name}") for name in ("uid_map", "gid_map")}
    ready, go = os.pipe()
    this = os.getpid()
    helper = os.fork()
    if helper == 0:
        # Nothing of this process may run on in the child, whatever happens.
        status = 1
        try:
            os.close(go)
            if os.read(ready, 1):
                for name, lines in maps.items():
                    _write(f"/proc/{this}/{name}", lines)
                status = 0
        finally:
            os._exit(status)
    os.close(ready)
    try:
        syscalls.unshare(syscalls.NEW_USER)
        os.write(go, b"1")
    finally:
        os.close(go)
        _, status = os.waitpid(helper, 0)
    if status != 0:
        raise OSError(1, "no user may be mapped")


def _same(path: str) -> str:
    """A map of every user that this namespace knows to himself."""
    with open(path) as file:
        rows = [line.split() for line in file]
    return "".join(f"{first} {first} {count}\n" for first, _, count in rows)


def _write(path: str, text: str) -> None:
    # One write: the kernel takes a map whole or not at all.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
