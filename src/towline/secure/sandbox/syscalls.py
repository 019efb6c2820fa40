"""The few calls to the kernel that the standard library lacks. Each raises OSError with the call's name in it."""

from __future__ import annotations

import ctypes
import os
from typing import Any

NEW_TIME, NEW_NAMESPACE, NEW_CGROUP, NEW_UTS = 0x80, 0x20000, 0x2000000, 0x4000000
NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x8000000, 0x10000000, 0x20000000, 0x40000000
NEW_ANY = NEW_TIME | NEW_NAMESPACE | NEW_CGROUP | NEW_UTS | NEW_IPC | NEW_USER | NEW_PROCESSES | NEW_NETWORK

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP = 1, 4, 8, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 36, 38, 47, 2
CAP_DAC_READ_SEARCH = 2

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 1 << 18
MNT_DETACH = 2
MOUNT_READ_ONLY, MOUNT_NO_SUID, MOUNT_NO_DEVICES = 1, 2, 4
_AT_FDCWD, _AT_RECURSIVE, _AT_SYMLINK_NOFOLLOW = -100, 0x8000, 0x100

# These came with numbers that all architectures share, but for pivot_root and capset, which are older.
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(name: str, number: int, *arguments: Any) -> int:
    """Every argument goes as a whole register: None, an int, or what points somewhere."""
    found = int(_libc.syscall(ctypes.c_long(number), *(ctypes.c_long(word) if isinstance(word, int) else word for word in arguments)))
    return _checked(name, found)


def _checked(name: str, found: int) -> int:
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return found


def prctl(option: int, *words: int) -> None:
    registers = [ctypes.c_ulong(word) for word in (*words, 0, 0, 0, 0)[:4]]
    _checked(f"prctl {option}", _libc.prctl(ctypes.c_int(option), *registers))


def unshare(flags: int) -> None:
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    words = [os.fsencode(word) or None for word in (source, target, kind)]
    _checked(f"mount {target}", _libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options) or None))


def detach(target: str) -> None:
    _checked(f"umount {target}", _libc.umount2(os.fsencode(target), MNT_DETACH))


def pivot_root(new: str, old: str) -> None:
    syscall("pivot_root", _PIVOT_ROOT[os.uname().machine], os.fsencode(new), os.fsencode(old))


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def restrict_mount(target: str, attributes: int, *, beneath: bool = True) -> None:
    """Add attributes to a mount, and to all that lie beneath it."""
    wanted = _MountAttributes(set=attributes)
    flags = _AT_SYMLINK_NOFOLLOW | (_AT_RECURSIVE if beneath else 0)
    syscall(f"mount_setattr {target}", _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), flags, ctypes.byref(wanted), ctypes.sizeof(wanted))


def keep_capabilities(mask: int) -> None:
    """Have these and no others, in every set but the ambient one. `mask` has the bits of capabilities below 32."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    syscall("capset", _CAPSET[os.uname().machine], header, sets)
