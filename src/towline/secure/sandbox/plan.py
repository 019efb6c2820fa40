"""What a process behind walls gets: which files, which words of the environment, which bounds. Pure but for looking where Python lies."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from towline.core.walls import Walls

PACKAGE = Path(__file__).parents[2]
NOBODY = 65534

# What every program needs that is linked with shared libraries, and what numeric libraries ask about the processor.
SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/nix/store",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
MACHINE = ("/sys/devices/system/cpu", "/sys/devices/system/node")
# Without a process table of its own a process sees of /proc what tells of the machine, and itself.
PROCESSES = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/proc/version", "/proc/filesystems")

# Words of the environment that change no answer and hold no secret.
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Plan:
    """Everything that the small program which puts up the walls is told. Paths are absolute, and there."""

    parent: int
    reads: tuple[str, ...]
    listed: tuple[str, ...]
    writes: tuple[str, ...]
    environment: Mapping[str, str]
    memory_bytes: int
    file_bytes: int
    disk_bytes: int
    cpu_s: int
    processes: int
    trusted: bool = False
    # Walls that are not to be put up; for showing that each of the others holds alone.
    without: tuple[str, ...] = ()


def plan(
    command: Sequence[str], walls: Walls, *, environ: Mapping[str, str], total_memory_bytes: int, trusted: bool, without: tuple[str, ...]
) -> Plan:
    """Bounds are those of `walls`, and never more than this machine has."""
    writes = tuple(str(path.absolute()) for path in walls.writes)
    reads = [*(path.absolute() for path in walls.reads), PACKAGE, *homes_of(Path(command[0]))]
    return Plan(
        parent=os.getpid(),
        reads=tuple(dict.fromkeys(str(path) for path in reads)),
        # Ours is found in the folder it lies in, whose other packages are not lent.
        listed=(str(PACKAGE.parent),),
        writes=writes,
        environment=environment(environ, command[0], writes[0] if writes else "/nonexistent"),
        memory_bytes=min(walls.memory_bytes, total_memory_bytes),
        file_bytes=walls.file_bytes,
        disk_bytes=walls.disk_bytes,
        cpu_s=walls.cpu_s,
        processes=walls.processes,
        trusted=trusted,
        without=without,
    )


def homes_of(python: Path) -> tuple[Path, ...]:
    """The folders that the Python at this path consists of: its environment, and the Python which that was made from."""
    homes = []
    if (python.parent.parent / "pyvenv.cfg").is_file():
        homes.append(python.parent.parent)
    if python.is_symlink() or not homes:
        base = python.resolve().parent.parent
        # That of the system lies in /usr, which is read anyway; a folder that merely holds a `bin` may be somebody's home.
        if any(base.glob("lib*/python3*")) and len(base.parts) > 2:
            homes.append(base)
    return tuple(homes)


def environment(environ: Mapping[str, str], python: str, home: str) -> dict[str, str]:
    """A short list of words that are kept, and a home and a place for temporary files that may be written."""
    words = {name: environ[name] for name in _KEPT if name in environ}
    words |= {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home, "USER": "nobody", "LOGNAME": "nobody"}
    words |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "ORT_DISABLE_TELEMETRY": "1"}
    if python == sys.executable:
        words["PYTHONPATH"] = str(PACKAGE.parent)
    return words
