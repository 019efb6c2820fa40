"""Give up for good what a process may do beyond others: being root, capabilities, and getting any back from a file it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from towline.secure.sandbox import syscalls
from towline.secure.sandbox.plan import NOBODY


def drop(*, nobody: bool, reading: bool) -> None:
    """`nobody` needs root. `reading` keeps the right to read files whatever their mode, for those who brought in only what may be read."""
    kept = 1 << syscalls.CAP_DAC_READ_SEARCH if reading and nobody else 0
    if nobody:
        os.setgroups([])
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    syscalls.keep_capabilities(kept)
    if kept:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, syscalls.CAP_DAC_READ_SEARCH)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def nobody_reaches(program: str, reads: Sequence[str], writes: Sequence[str]) -> bool:
    """Whether nobody could run this program, read these and come to those folders. Called as root, which finds out by trying."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            reached = os.access(program, os.X_OK) and all(_readable(path) for path in reads)
            status = 0 if reached and all(os.access(os.path.dirname(path), os.X_OK) for path in writes) else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _readable(path: str) -> bool:
    return os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK)


def give(folders: Sequence[str]) -> None:
    """Let nobody have these folders and what already lies in them."""
    for folder in folders:
        os.chown(folder, NOBODY, NOBODY)
        for name in os.listdir(folder):
            os.chown(os.path.join(folder, name), NOBODY, NOBODY, follow_symlinks=False)
