"""Start servers on cores of their own, and read from the kernel what all their processes use: processor time and memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 5.0
# CPUCLOCK_SCHED of clock_getcpuclockid(3).
_SCHED_CLOCK = 2
_MARK = "BENCH_SERVER"


@dataclass(frozen=True)
class Server:
    """A server that runs: its first process, and the mark in the environment of all its processes."""

    process: subprocess.Popen[bytes]
    mark: str

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True)
class Memory:
    """Bytes over all processes of a server: `rss` counts shared pages once per process, `pss` once in all."""

    rss_bytes: int
    pss_bytes: int
    processes: int


def cores() -> tuple[set[int], set[int]]:
    """(server's, load generator's): one core each; the same one when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[-1]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_installed() -> dict[str, str]:
    """Our environment, in which Python keeps its bytecode, as an installed package has it: without, each start compiles Towline anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def every_core() -> set[int]:
    return os.sched_getaffinity(0)


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    core: set[int] | None = None,
    folder: Path | None = None,
) -> Iterator[Server]:
    """A server in a session of its own, pinned to `core`; stopped at exit, with whatever it started."""
    pin = (lambda: os.sched_setaffinity(0, core)) if core else None
    mark = f"{_MARK}={uuid.uuid4().hex}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**as_installed(), **(environment or {}), _MARK: mark.partition("=")[2]},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=pin,
        )
    server = Server(process, mark)
    try:
        yield server
    finally:
        stop(server)


def stop(server: Server) -> None:
    """SIGTERM and wait; what is left of it after that is killed. Raises SystemExit when something cannot be ended."""
    process = server.process
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    deadline_s = time.monotonic() + KILL_TIMEOUT_S
    # More than once: what a dying process starts in its last moment is found the next time.
    while left := [pid for pid in members(server) if not _is_zombie(pid)]:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"Processes {left} of {process.args!r} did not end within {KILL_TIMEOUT_S:.0f} s of SIGKILL.")
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    process.wait()


def members(server: Server) -> list[int]:
    """Every process of the server's session, every one that carries its mark, and every descendant of one: Ray's daemons make
    sessions of their own, gunicorn's workers overwrite their environment."""
    parents, chosen = {}, set()
    mark = server.mark.encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            marked = mark in Path(f"/proc/{entry}/environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        parents[int(entry)] = int(fields[1])
        if int(fields[3]) == server.pid or marked:
            chosen.add(int(entry))
    while found := {pid for pid, parent in parents.items() if parent in chosen} - chosen:
        chosen |= found
    return sorted(chosen)


def cpu_us(server: Server) -> float:
    """Microseconds of processor time, user and system, that all members used so far."""
    total_ns = 0
    for pid in members(server):
        try:
            # The kernel's clock of a whole process, to the nanosecond. Unlike a sum over /proc/PID/task/*/schedstat it keeps
            # what threads used that have ended since: FastAPI's come and go.
            total_ns += time.clock_gettime_ns((~pid << 3) | _SCHED_CLOCK)
        except OSError:
            continue
    return total_ns / 1e3


def memory(server: Server) -> Memory:
    """What all members hold now."""
    rss, pss, count = 0, 0, 0
    for pid in members(server):
        try:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        # An ended process that nobody waited for has no memory to tell of.
        if "Rss" in fields:
            rss, pss, count = rss + _kilobytes(fields["Rss"]), pss + _kilobytes(fields["Pss"]), count + 1
    return Memory(rss * 1024, pss * 1024, count)


def _kilobytes(text: str) -> int:
    return int(text.split()[0])


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
