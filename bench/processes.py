"""Start servers on a core of their own, and read from the kernel how much processor time all their processes used."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_TIMEOUT_S = 30.0
# CPUCLOCK_SCHED of clock_getcpuclockid(3).
_SCHED_CLOCK = 2


def cores() -> tuple[set[int], set[int]]:
    """(server's, load generator's): one core each; the same one when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[-1]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, core: set[int] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a session of its own, pinned to `core`; stopped at exit, with whatever it started."""
    pin = (lambda: os.sched_setaffinity(0, core)) if core else None
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=pin,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM and wait; what is left of its session after that is killed."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    for pid in members(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def members(leader: int) -> list[int]:
    """Every process of the leader's session and every descendant of one: supervisor, front, workers."""
    parents, chosen = {}, set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(entry)] = int(fields[1])
        if int(fields[3]) == leader:
            chosen.add(int(entry))
    while found := {pid for pid, parent in parents.items() if parent in chosen} - chosen:
        chosen |= found
    return sorted(chosen)


def cpu_us(leader: int) -> float:
    """Microseconds of processor time, user and system, that all members used so far."""
    total_ns = 0
    for pid in members(leader):
        try:
            # The kernel's clock of a whole process, to the nanosecond. Unlike a sum over /proc/PID/task/*/schedstat it keeps
            # what threads used that have ended since: FastAPI's come and go.
            total_ns += time.clock_gettime_ns((~pid << 3) | _SCHED_CLOCK)
        except OSError:
            continue
    return total_ns / 1e3
