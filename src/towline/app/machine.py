"""What this machine has: processor, memory, open-file limit, disk. Reads /proc and /sys; missing files are no error."""

from __future__ import annotations

import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

_USEFUL_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "sve")


@dataclass(frozen=True)
class Processor:
    """`cores` are those this process may use; `share` is the container's limit in cores, None without one."""

    model: str
    flags: tuple[str, ...]
    cores: int
    share: float | None


@dataclass(frozen=True)
class Memory:
    """Bytes this process may use at most, and bytes it could still get. None where the system does not tell."""

    limit_bytes: int | None
    available_bytes: int | None


def processor() -> Processor:
    """The first processor, and how much of all of them is ours."""
    cpuinfo = _fields(_read("/proc/cpuinfo"), ":")
    model = cpuinfo.get("model name") or cpuinfo.get("Hardware") or platform.machine()
    found = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    share = int(quota) / int(period) if quota.isdigit() and period.strip().isdigit() else None
    return Processor(model, tuple(flag for flag in _USEFUL_FLAGS if flag in found), len(os.sched_getaffinity(0)), share)


def memory() -> Memory:
    """The machine's memory, or the container's where that is less."""
    meminfo = _fields(_read("/proc/meminfo"), ":")
    limit, available = _kibibytes(meminfo.get("MemTotal")), _kibibytes(meminfo.get("MemAvailable"))
    bound, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if bound.isdigit() and used.isdigit():
        limit = min(limit, int(bound)) if limit is not None else int(bound)
        left = max(0, int(bound) - int(used))
        available = min(available, left) if available is not None else left
    return Memory(limit, available)


def open_file_limit() -> tuple[int, int]:
    """The soft and the hard limit of open files."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def free_bytes(folder: Path) -> int:
    """Bytes an ordinary user may still write where `folder` is, or would be."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _fields(text: str, mark: str) -> dict[str, str]:
    """`name: value` lines; the first of each name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, seen, value = line.partition(mark)
        if seen:
            found.setdefault(name.strip(), value.strip())
    return found


def _kibibytes(text: str | None) -> int | None:
    number = (text or "").removesuffix("kB").strip()
    return int(number) * 1024 if number.isdigit() else None
