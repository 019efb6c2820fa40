"""The small program that puts up the walls: `enter STATUS_FD PLAN PROGRAM ARGUMENT…`. Standard library only.

Three processes come of it. The outermost is the one that was started: it ends as the program ends, and the program ends with it and with
whoever started it. The first is the first of the new process table, reaps, and looks after the folders. The last puts up the rest of the
walls around itself and becomes the program. STATUS_FD gets one JSON object a line: which walls stand, or what went wrong.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from towline.secure.sandbox import landlock, limits, namespaces, privileges, seccomp, syscalls, tree
from towline.secure.sandbox.plan import DEVICES, MACHINE, PROCESSES, SYSTEM, Plan

LOOK_MS = 500


@dataclass(frozen=True)
class Standing:
    """Which walls stand around the program. `landlock` is its ABI, 0 for none."""

    namespaces: bool = False
    landlock: int = 0
    seccomp: bool = False
    nobody: bool = False

    @property
    def missing(self) -> str:
        """What nothing would keep the program from; empty when the walls are enough."""
        if not self.namespaces and not self.landlock:
            return "files"
        if not self.namespaces and not self.seccomp:
            return "the network"
        return ""


def main(argv: list[str]) -> None:
    status, plan, program = int(argv[0]), Plan(**json.loads(argv[1])), argv[2:]
    os.set_inheritable(status, False)
    starter = os.pidfd_open(plan.parent)
    if os.getppid() != plan.parent:
        os._exit(1)
    os.umask(0o022)
    standing = found(plan, program[0])
    if standing.missing and not plan.trusted:
        _tell(status, missing=standing.missing)
        os._exit(1)
    if standing.namespaces:
        namespaces.enter()
    alive, held = os.pipe()
    told, tell = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(held)
        _guarded(status, lambda: _be_first(plan, program, standing, status, alive, tell))
    _keep_only(0, 1, 2, starter, told, held)
    _wait(starter, told)


def found(plan: Plan, program: str) -> Standing:
    """Which walls can be put up here, found by putting up in a child what cannot be taken down again."""
    if plan.trusted:
        return Standing()
    has_namespaces = "namespaces" not in plan.without and _works(lambda: _in_own_namespaces(plan))
    has_landlock = landlock.abi() if "landlock" not in plan.without else 0
    has_seccomp = "seccomp" not in plan.without and seccomp.known_here()
    nobody = os.geteuid() == 0 and (has_namespaces or privileges.nobody_reaches(program, plan.reads, plan.writes))
    return Standing(has_namespaces, has_landlock, has_seccomp, nobody)


def _in_own_namespaces(plan: Plan) -> None:
    namespaces.enter()
    child = os.fork()
    if child == 0:
        _exit_well(lambda: tree.build(_all_read(plan), plan.writes, DEVICES))
    if os.waitpid(child, 0)[1] != 0:
        raise OSError("no file tree of its own")


def _works(attempt: Callable[[], None]) -> bool:
    child = os.fork()
    if child == 0:
        _exit_well(attempt)
    return os.waitpid(child, 0)[1] == 0


def _exit_well(attempt: Callable[[], None]) -> None:
    status = 1
    try:
        attempt()
        status = 0
    except OSError:
        # That is the answer: it does not work here.
        status = 2
    finally:
        os._exit(status)


def _be_first(plan: Plan, program: list[str], standing: Standing, status: int, alive: int, tell: int) -> None:
    if standing.namespaces:
        tree.build(_all_read(plan), plan.writes, DEVICES)
    else:
        # Orphans of the program become children of this process, wherever they hid.
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    last = os.fork()
    if last == 0:
        _guarded(status, lambda: _become(plan, program, standing, status))
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    _keep_only(0, 1, 2, alive, tell)
    _look_after(plan, last, alive, tell)


def _become(plan: Plan, program: list[str], standing: Standing, status: int) -> None:
    """Put up the remaining walls, each of which the next would forbid, and become the program."""
    os.setsid()
    limits.apply(plan, counted_alone=standing.namespaces)
    if standing.nobody:
        privileges.give(plan.writes)
    if not plan.trusted:
        privileges.drop(nobody=standing.nobody, reading=standing.namespaces)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if standing.landlock:
        landlock.restrict(rules(plan, namespaces=standing.namespaces))
    if standing.seccomp:
        # Where what may be read is mounted read-only, its modes and times are, too.
        seccomp.restrict(marking=standing.namespaces)
    if plan.writes:
        os.chdir(plan.writes[0])
    _tell(status, namespaces=standing.namespaces, landlock=standing.landlock, seccomp=standing.seccomp, nobody=standing.nobody)
    os.execve(program[0], program, dict(plan.environment))


def rules(plan: Plan, *, namespaces: bool) -> list[tuple[str, int]]:
    """What Landlock is told: paths, and what may be done beneath them."""
    processes = ("/proc",) if namespaces else PROCESSES
    allowed = [(path, landlock.RUN) for path in (*SYSTEM, *plan.reads)]
    allowed += [(path, landlock.READ) for path in (*MACHINE, *processes)]
    allowed += [(path, landlock.READ_DIR) for path in plan.listed]
    allowed += [(path, landlock.READ_FILE | landlock.WRITE_FILE) for path in DEVICES]
    return allowed + [(path, landlock.WRITE) for path in plan.writes]


def _all_read(plan: Plan) -> list[str]:
    return [*SYSTEM, *MACHINE, *plan.reads]


def _look_after(plan: Plan, program: int, alive: int, tell: int) -> None:
    """Until the program ends, whoever waits for it does, or it has to be stopped."""
    ended = os.pidfd_open(program)
    why = ""
    while not why:
        ready = select.select([ended, alive], [], [], LOOK_MS / 1000)[0]
        if ended in ready:
            break
        why = "whoever asked for it is gone" if alive in ready else limits.overfull(plan.writes, plan.disk_bytes)
        _reap(program)
    if why:
        sys.stderr.write(f"stopped: {why}\n")
        sys.stderr.flush()
        os.kill(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    _end_children()
    os.write(tell, status.to_bytes(4, "little"))
    os._exit(0)


def _reap(program: int) -> None:
    """Collect orphans that have ended; the program itself is collected by name."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in (0, program):
            return
        os.waitpid(found.si_pid, 0)


def _end_children() -> None:
    """End what the program left behind. Whoever loses his parent by this is ours next; in a process table of its own the end of
    this process is the end of all.
    """
    for _ in range(10_000):
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]


def _wait(starter: int, told: int) -> None:
    """End as the program ended; at once, taking the rest along, when whoever started this is gone."""
    if starter in select.select([starter, told], [], [])[0]:
        os._exit(1)
    said = os.read(told, 4)
    code = os.waitstatus_to_exitcode(int.from_bytes(said, "little")) if len(said) == 4 else -signal.SIGKILL
    if code >= 0:
        os._exit(code)
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    os._exit(1)


def _guarded(status: int, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:
        _tell(status, error=str(error))
    finally:
        os._exit(1)


def _tell(status: int, **words: Any) -> None:
    os.write(status, (json.dumps(words) + "\n").encode())


def _keep_only(*descriptors: int) -> None:
    """Close the others: an end of a pipe that is open here would not be seen to close."""
    most = os.sysconf("SC_OPEN_MAX")
    for low, high in itertools.pairwise(sorted({-1, *descriptors, most})):
        # An empty range is taken for all there are.
        if low + 1 < high:
            os.closerange(low + 1, high)


if __name__ == "__main__":
    main(sys.argv[1:])
