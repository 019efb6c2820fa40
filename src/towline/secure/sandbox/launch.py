"""Start a program behind walls, or say which are missing here."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from towline.core.errors import ImportRefused
from towline.core.interpreter import command
from towline.core.walls import SAID, Walls
from towline.secure.sandbox.landlock import covers
from towline.secure.sandbox.plan import PACKAGE, environment, plan

START_TIMEOUT_S = 60.0
NO_SANDBOX = "NO_SANDBOX"


@dataclass(frozen=True)
class Wall:
    """One wall, whether it stands on this machine, and what it keeps in or why it does not."""

    name: str
    stands: bool
    keeps: str


def launch(argv: Sequence[str], pass_fds: Sequence[int], walls: Walls) -> subprocess.Popen[bytes]:
    """Start `argv` behind `walls`, with these descriptors passed on. It ends with this process, however that ends.

    Raises ImportRefused with the code NO_SANDBOX where this machine lets no walls be put up that keep files and network out of reach.
    """
    return launch_behind(argv, pass_fds, walls)[0]


def launch_vouched(argv: Sequence[str], pass_fds: Sequence[int], walls: Walls, *, without: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """The same for what somebody vouches for: behind the walls where they stand, and where they do not within the bounds on memory, time
    and disk alone, with as short an environment."""
    try:
        return launch_behind(argv, pass_fds, walls, without=without)[0]
    except ImportRefused as refusal:
        if refusal.code != NO_SANDBOX:
            raise
    return launch_behind(argv, pass_fds, walls, trusted=True)[0]


def standing() -> tuple[Wall, ...]:
    """Which walls stand on this machine, found by putting them up around a program that does nothing."""
    with tempfile.TemporaryDirectory(prefix="towline-walls-") as folder:
        try:
            process, told = launch_behind([sys.executable, "-I", "-S", "-c", ""], (), Walls(writes=(Path(folder),)))
        except ImportRefused as refusal:
            return (Wall("sandbox", False, refusal.message),)
        process.wait()
    return described(told)


def described(told: Mapping[str, Any]) -> tuple[Wall, ...]:
    """What `enter` said of the walls that it put up, in words. Pure."""
    own = "files, network, processes, messages of its own" if told["namespaces"] else "this machine lets this user make none"
    abi = told["landlock"]
    user = "nobody" if told["nobody"] else "the same user, without privileges"
    return (
        Wall("namespaces", told["namespaces"], own),
        Wall("landlock", bool(abi), f"{covers(abi)} (ABI {abi})" if abi else "this kernel has none"),
        Wall("seccomp", told["seccomp"], "no sockets, no tracing, no mounts" if told["seccomp"] else "this kernel filters no calls"),
        Wall("user", True, user),
    )


def launch_behind(
    argv: Sequence[str], pass_fds: Sequence[int], walls: Walls, *, trusted: bool = False, without: Sequence[str] = ()
) -> tuple[subprocess.Popen[bytes], Mapping[str, Any]]:
    """The process, and what it said of its walls. `without` leaves walls out, to show that the others hold alone."""
    wanted = plan(argv, walls, environ=os.environ, total_memory_bytes=_total_memory_bytes(), trusted=trusted, without=tuple(without))
    told, tell = os.pipe()
    said = _said(walls)
    try:
        process = subprocess.Popen(
            [*command("towline.secure.sandbox.enter", str(tell), json.dumps(asdict(wanted))), *argv],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=(tell, *pass_fds),
            env={**environment(os.environ, sys.executable, "/"), "PYTHONPATH": str(PACKAGE.parent)},
            start_new_session=True,
        )
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(tell)
        os.close(said)
    try:
        return process, _heard(told, process)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        os.close(told)


def _said(walls: Walls) -> int:
    """Where the program's words go. Our folder still: nothing hostile has run in it."""
    if not walls.writes:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    return os.open(walls.writes[0] / SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _heard(told: int, process: subprocess.Popen[bytes]) -> Mapping[str, Any]:
    """What was said until the program began, which is when the other end closed."""
    said = b""
    while select.select([told], [], [], START_TIMEOUT_S)[0]:
        part = os.read(told, 65536)
        if not part:
            break
        said += part
    lines = [json.loads(line) for line in said.splitlines()]
    words: dict[str, Any] = lines[-1] if lines else {"error": f"it ended with status {process.wait(START_TIMEOUT_S)}"}
    if "missing" in words:
        raise ImportRefused(
            f"This machine has no walls that would keep what reads the file from {words['missing']}.",
            code=NO_SANDBOX,
            hint="'towline doctor' tells which walls stand. Take a machine that has Landlock or user namespaces; "
            "or, if you vouch for the file, add --trust-this-file.",
        )
    if "error" in words:
        raise ImportRefused(f"The walls around what reads the file could not be put up: {words['error']}.", code=NO_SANDBOX)
    return words


def _total_memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
