"""Read a small file that a user named, whatever that name turns out to be."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from towline.core.errors import TowlineError


def read_plain_file(path: Path, max_bytes: int, refused: Callable[[str], TowlineError]) -> bytes:
    """The content of a plain file of at most `max_bytes`; else raises what `refused` makes of the reason.

    A pipe or a device is told without waiting for it, and never read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise refused(f"it cannot be read: {os.strerror(error.errno or 0)}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise refused("it is no plain file")
        if status.st_size > max_bytes:
            raise refused(f"it has {status.st_size} bytes; at most {max_bytes} are taken")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(max_bytes)
    finally:
        os.close(descriptor)
