"""The small program that puts walls around a worker: `worker FOLDER PROGRAM ARGUMENT…`. Standard library only.

It becomes the program, in the same process: whoever started it counts its memory, ends it and learns how it ended by its number. So there
are no namespaces; Landlock keeps its files, seccomp the network. It reads its version and its Python, and writes nothing.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from towline.core.walls import Walls
from towline.secure.sandbox import landlock, privileges, seccomp
from towline.secure.sandbox.enter import rules
from towline.secure.sandbox.plan import Plan, plan

_ALONE = ("namespaces",)


def main(argv: list[str]) -> None:
    folder, program = Path(argv[0]), argv[1:]
    wanted = plan(program, Walls(reads=(folder,)), environ=os.environ, total_memory_bytes=0, trusted=False, without=_ALONE)
    _put_up(wanted, program[0])
    os.execve(program[0], program, dict(wanted.environment))


def _put_up(wanted: Plan, program: str) -> None:
    """Those that this machine has: what was imported behind all walls, or vouched for, is served where some are missing as well."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nobody = os.geteuid() == 0 and privileges.nobody_reaches(program, wanted.reads, wanted.writes)
    privileges.drop(nobody=nobody, reading=False)
    if landlock.abi():
        landlock.restrict(rules(wanted, namespaces=False))
    else:
        _warn("this kernel has no Landlock: it may read what its user may")
    if seccomp.known_here():
        seccomp.restrict(marking=False)
    else:
        _warn("this kernel filters no calls: it may use the network")


def _warn(why: str) -> None:
    sys.stderr.write(f"WARNING towline.serve: a worker has not all walls around it: {why}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
