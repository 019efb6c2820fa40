"""Name the kind of CPU we run on: two machines of one kind give a model's answers the same bits."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

# What makes an engine choose other kernels, and so round differently.
_TELLING = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512-vnni",
    "avx_vnni": "avx-vnni",
    "amx_int8": "amx",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
    "bf16": "bf16",
}


@cache
def cpu_kind() -> str:
    """As `GenuineIntel-6-85 avx2 avx512 avx512-vnni`: vendor, family, model, and the instructions that change rounding."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    return kind_from(cpuinfo, platform.machine())


def kind_from(cpuinfo: str, machine: str) -> str:
    """The kind told by the first processor of a /proc/cpuinfo; only `machine` (as x86_64) where it tells nothing. Pure."""
    fields: dict[str, str] = {}
    for line in cpuinfo.split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    names = [fields[name] for name in ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part") if name in fields]
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return " ".join(["-".join(names) or machine or "unknown", *(word for flag, word in _TELLING.items() if flag in flags)])


def usable_cores() -> int:
    """How many cores this process may run on: fewer than there are, where it is pinned or its container is."""
    return len(os.sched_getaffinity(0)) or 1
