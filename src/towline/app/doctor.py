"""Check this machine and the store, in words that can be pasted into a report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import towline
from towline.app.environments.listing import environments
from towline.app.home import find_settings
from towline.app.listing import DATABASE
from towline.app.machine import free_bytes, memory, open_file_limit, processor
from towline.app.running import ps
from towline.core.config import NO_PORT, home_folder
from towline.core.errors import TowlineError, UsageError

# What a line of our own requirements is about, and the extra that it belongs to.
_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*(?:;.*extra == ['\"]([\w-]+))?")
# Frameworks that serve where they are installed beside Towline.
_BESIDE = ("onnxruntime-gpu", "torch", "tensorflow")
ENOUGH_MEMORY_BYTES = 512 << 20
ENOUGH_DISK_BYTES = 1 << 30
ENOUGH_OPEN_FILES = 4096


@dataclass(frozen=True)
class Check:
    """One thing looked at. `broken` keeps Towline from working, `warn` may."""

    name: str
    state: Literal["ok", "warn", "broken"]
    found: str
    hint: str = ""


def doctor(*, home: str | Path | None = None, deep: bool = False) -> tuple[Check, ...]:
    """Look at Python, packages, processor, memory, limits, settings, home, store and port. `deep` reads every stored file."""
    return tuple(_checks(home, deep))


def _checks(home: str | Path | None, deep: bool) -> Iterator[Check]:
    yield Check("towline", "ok", towline.__version__)
    yield _python()
    yield from _packages()
    yield _environments()
    yield _processor()
    yield _memory()
    yield _open_files()
    yield _shared_memory()
    yield _sandbox()
    try:
        loaded = find_settings({"home": str(home) if home else None})
    except UsageError as error:
        yield Check("settings", "broken", error.message, error.hint)
        return
    changed = sorted({where for where in loaded.origin.values() if where not in ("default", "flag")})
    yield Check("settings", "ok", f"from {', '.join(changed)}" if changed else "defaults")
    folder = home_folder(loaded.settings, os.environ)
    yield from _home(folder)
    yield _store(folder, deep)
    yield _port("port", "--port", loaded.settings.host, loaded.settings.port, folder)
    if loaded.settings.grpc_port != NO_PORT:
        yield _port("grpc port", "--grpc-port", loaded.settings.host, loaded.settings.grpc_port, folder)


def _python() -> Check:
    found = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    )
    if sys.platform != "linux":
        return Check("python", "broken", found, "Towline needs Linux: it uses memfd, SOCK_SEQPACKET and fork.")
    return Check("python", "ok", found)


def _packages() -> Iterator[Check]:
    by_extra = _required()
    required = by_extra.pop("")
    if missing := [name for name in required if _installed(name) is None]:
        yield Check("packages", "broken", f"missing: {', '.join(missing)}", "Run 'pip install --force-reinstall towline'.")
    else:
        yield Check("packages", "ok", _with_versions(required))
    whole = [f"{extra} ({_with_versions(names)})" for extra, names in by_extra.items() if all(map(_installed, names))]
    beside = _with_versions([name for name in _BESIDE if _installed(name)])
    yield Check("extras", "ok", ", ".join(filter(None, (*whole, beside))) or "none")


def _environments() -> Check:
    found = [one for one in environments() if one.state != "missing"]
    words = ", ".join(f"{one.name} ({_gib(one.size_bytes)})" if one.state == "ready" else f"{one.name} ({one.state})" for one in found)
    stale = [one.name for one in found if one.state in ("out of date", "broken", "half made")]
    if stale:
        return Check("environments", "warn", words, f"Make it anew: towline env create {stale[0]}")
    return Check("environments", "ok", words or "none")


def _required() -> dict[str, list[str]]:
    """The packages that Towline asks for, by extra; under the empty name those of every user. Nothing where it was never installed."""
    by_extra: dict[str, list[str]] = {"": []}
    try:
        lines = importlib.metadata.requires("towline") or ()
    except importlib.metadata.PackageNotFoundError:
        lines = ()
    for line in lines:
        if found := _REQUIREMENT.match(line):
            by_extra.setdefault(found[2] or "", []).append(found[1])
    return by_extra


def _with_versions(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_installed(name)}" for name in names)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> Check:
    found = processor()
    share = f", limited to {found.share:g}" if found.share is not None else ""
    words = f"{found.model}, {found.cores} cores{share}, {' '.join(found.flags) or 'no vector flags'}"
    if platform.machine() == "x86_64" and "avx2" not in found.flags:
        return Check("processor", "warn", words, "Without AVX2 models run several times slower.")
    return Check("processor", "ok", words)


def _memory() -> Check:
    found = memory()
    if found.available_bytes is None or found.limit_bytes is None:
        return Check("memory", "warn", "unknown", "/proc/meminfo cannot be read; measured memory cannot be compared with it.")
    words = f"{_gib(found.available_bytes)} free of {_gib(found.limit_bytes)}"
    if found.available_bytes < ENOUGH_MEMORY_BYTES:
        return Check("memory", "warn", words, "A server with one small model takes about 300 MiB.")
    return Check("memory", "ok", words)


def _open_files() -> Check:
    soft, hard = open_file_limit()
    words = f"{soft} (at most {hard})"
    if soft < ENOUGH_OPEN_FILES:
        return Check("open files", "warn", words, f"Each connection takes one. Try: ulimit -n {min(hard, 65536)}")
    return Check("open files", "ok", words)


def _shared_memory() -> Check:
    try:
        os.close(os.memfd_create("towline-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    except OSError as error:
        return Check("shared memory", "broken", f"memfd: {error.strerror}", "The sandbox must allow memfd_create.")
    return Check("shared memory", "ok", "memfd")


def _sandbox() -> Check:
    """The walls that a converter would have around it, put up around a process that does nothing."""
    from towline.secure.sandbox.launch import standing

    walls = standing()
    words = "; ".join(f"{wall.name}: {wall.keeps}" if wall.stands else f"no {wall.name}: {wall.keeps}" for wall in walls)
    if not any(wall.stands for wall in walls):
        return Check(
            "sandbox", "warn", words, "Files that hold code are imported only with --trust-this-file. Landlock is in Linux 5.13 and later."
        )
    if not all(wall.stands for wall in walls):
        return Check(
            "sandbox", "warn", words, "Those that stand keep files and network out of reach; each of the others would be a second one."
        )
    return Check("sandbox", "ok", words)


def _home(folder: Path) -> Iterator[Check]:
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Check("home", "broken", f"{_tilde(folder)}: {error.strerror}", "Give another with --home or TOWLINE_HOME.")
        return
    yield Check("home", "ok", _tilde(folder) + ("" if folder.exists() else " (not made yet)"))
    free = free_bytes(folder)
    if free < ENOUGH_DISK_BYTES:
        yield Check("disk", "warn", f"{_gib(free)} free", "An import needs room for a copy of the model.")
    else:
        yield Check("disk", "ok", f"{_gib(free)} free")


def _store(folder: Path, deep: bool) -> Check:
    # Versions without their database are no empty store; opening it says what to do.
    if not (folder / DATABASE).exists() and not any((folder / "versions").glob("*")):
        return Check("store", "ok", "empty")
    from towline.store.sqlite import open_store

    try:
        with open_store(folder, read_only=True) as store:
            faults = [*store.check(deep=deep), *store.verify_events()]
    except TowlineError as error:
        return Check("store", "broken", error.message, error.hint)
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        return Check("store", "broken", " ".join(faults[:3]) + more, "Import what is damaged again, or restore the folder from a backup.")
    return Check("store", "ok", "every file is what its digest says" if deep else "whole (--deep reads every file)")


def _port(name: str, flag: str, host: str, port: int, folder: Path) -> Check:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As a server does: a port that only has old connections closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        for server in ps(home=folder):
            if any(url and url.endswith(f":{port}") for url in (server.url, server.grpc_url)):
                return Check(name, "ok", f"{host}:{port} is used by our own server, pid {server.pid}")
        return Check(name, "warn", f"{host}:{port}: {error.strerror}", f"Serve elsewhere: towline serve {flag} 0 takes a free one.")
    return Check(name, "ok", f"{host}:{port} is free")


def _tilde(folder: Path) -> str:
    """Without the user's name, so that the report can be pasted anywhere."""
    try:
        return str(Path("~") / folder.relative_to(Path.home()))
    except ValueError:
        return str(folder)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"
