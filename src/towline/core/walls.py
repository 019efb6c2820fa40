"""What a process behind walls may do. Pure values; secure/sandbox puts them up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# What such a process prints is kept in a file of this name, in the first folder that it may write.
SAID = "said.log"


@dataclass(frozen=True)
class Walls:
    """`reads` are files and folders that may be read, besides the Python it runs, /usr and the loader's files; `writes` folders that may
    be written. No network, no other processes of this user, no new privileges. Sizes in bytes, `cpu_s` in seconds of all its threads.
    `file_bytes` bounds one file, `disk_bytes` all that lies in `writes`; `processes` counts threads too.
    """

    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    memory_bytes: int = 16 << 30
    file_bytes: int = 16 << 30
    disk_bytes: int = 48 << 30
    cpu_s: int = 3600
    processes: int = 1024
