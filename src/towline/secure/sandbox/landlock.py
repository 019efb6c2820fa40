"""Landlock: the kernel's own list of what this process and its children may touch, put up by the process itself. Linux 5.13 and later."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from towline.secure.sandbox.syscalls import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = (1 << bit for bit in range(9))
REFER, TRUNCATE = 1 << 13, 1 << 14
# Rights over files that a kernel of this ABI knows; asking for more is refused.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
# TCP: bind and connect. Scopes: abstract Unix sockets and signals of processes outside.
_TCP, _SCOPES = 3, 3

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
# No links, pipes, sockets or devices: whoever reads the folder afterwards finds files and folders.
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def abi() -> int:
    """Which Landlock the kernel has; 0 for none."""
    try:
        return syscall("landlock", _CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def covers(version: int) -> str:
    """What this ABI keeps in, in words."""
    words = ["files"]
    if version >= 4:
        words.append("TCP")
    if version >= 6:
        words += ["abstract sockets", "signals"]
    return ", ".join(words)


def restrict(rules: Sequence[tuple[str, int]]) -> None:
    """Allow each path, and what is beneath it, the rights given; deny the rest to this process from now on, for good.

    A path that is not there is passed over: nothing can be done with it. Needs no_new_privs.
    """
    version = abi()
    files = _FILE_RIGHTS[max(known for known in _FILE_RIGHTS if known <= version)]
    wanted = _Ruleset(files, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    # Older kernels know a shorter structure, and take a longer one whose end is zero.
    ruleset = syscall("landlock_create_ruleset", _CREATE_RULESET, ctypes.byref(wanted), ctypes.sizeof(wanted), 0)
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & files)
        syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(Path(path).resolve(), os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _ON_FILES
        rule = _Beneath(rights, place)
        syscall("landlock_add_rule", _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)
