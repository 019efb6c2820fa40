"""A filter on calls to the kernel: no sockets, no other processes' memory, no namespaces or mounts of its own, no keys, no bpf.

The list is of what a program behind walls could use to get around them, and of what reaches large and rarely used parts of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from towline.secure.sandbox.syscalls import NEW_ANY, NEW_TIME, PR_SET_SECCOMP, prctl

_FILTER = 2
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# Numbers on x86_64 and aarch64; -1 where the call does not exist.
_REFUSED = {
    # Whatever is connected was connected before, and came in as a descriptor. io_uring would go around this list.
    "socket": (41, 198),
    "io_uring_setup": (425, 425),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mknod": (133, -1),
    "mknodat": (259, 33),
    "symlink": (88, -1),
    "symlinkat": (266, 36),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "personality": (135, 92),
    "modify_ldt": (154, -1),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
}
# Landlock leaves these alone: the modes, owners, times and attributes of files that can be reached and not written.
_MARKING = {
    "chmod": (90, -1),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, -1),
    "fchown": (93, 55),
    "lchown": (94, -1),
    "fchownat": (260, 54),
    "utime": (132, -1),
    "utimes": (235, -1),
    "futimesat": (261, -1),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
}
_CLONE, _CLONE3 = (56, 220), 435
# The lowest byte of clone's flags is a signal.
_NEW_BY_CLONE = NEW_ANY & ~NEW_TIME

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_X32 = 0x40000000


def known_here() -> bool:
    """Whether this machine's architecture is in the tables, and its kernel filters calls."""
    return os.uname().machine in _ARCHITECTURES and os.path.exists("/proc/sys/kernel/seccomp/actions_avail")


def restrict(*, marking: bool) -> None:
    """Refuse the calls to this process and its children from now on, for good. `marking` allows to change files' modes and times.

    Needs no_new_privs.
    """
    program = b"".join(struct.pack("=HBBI", *words) for words in instructions(os.uname().machine, marking=marking))
    held = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    pointed = Program(len(program) // 8, ctypes.cast(held, ctypes.c_void_p))
    prctl(PR_SET_SECCOMP, _FILTER, ctypes.addressof(pointed))


def instructions(machine: str, *, marking: bool) -> Iterator[tuple[int, int, int, int]]:
    """The filter for this architecture, one (code, jump if so, jump if not, value) an instruction."""
    column, architecture = _ARCHITECTURES[machine]
    yield _LOAD, 0, 0, _ARCHITECTURE_AT
    yield _EQUAL, 1, 0, architecture
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER_AT
    if machine == "x86_64":
        # The same calls under other numbers.
        yield _AT_LEAST, 0, 1, _X32
        yield _RETURN, 0, 0, _error(errno.EPERM)
    for numbers in (*_REFUSED.values(), *(() if marking else _MARKING.values())):
        if numbers[column] >= 0:
            yield _EQUAL, 0, 1, numbers[column]
            yield _RETURN, 0, 0, _error(errno.EPERM)
    # Its flags lie in memory, where a filter cannot look; the C library then asks the older call.
    yield _EQUAL, 0, 1, _CLONE3
    yield _RETURN, 0, 0, _error(errno.ENOSYS)
    yield _EQUAL, 0, 3, _CLONE[column]
    yield _LOAD, 0, 0, _FIRST_ARGUMENT_AT
    yield _ANY_BIT, 0, 1, _NEW_BY_CLONE
    yield _RETURN, 0, 0, _error(errno.EPERM)
    yield _RETURN, 0, 0, _ALLOW


def _error(number: int) -> int:
    return 0x00050000 | number
