"""Whoever is behind the walls tries to get out. Real processes; the same attempts succeed where no walls stand."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from towline.core.walls import Walls
from towline.secure.sandbox.launch import launch_behind

ATTEMPTS = Path(__file__).with_name("attempts.py")
SECRET = "the secret of this machine"
# Memory is bounded for whoever is trusted, too; a user namespace and root need what not every user has.
BOUND_ALWAYS = {"take more memory than there is", "read a word of the environment"}
NOT_FOR_ALL = {"make a user namespace", "join other groups", "trace another process", "read another process's memory"}
# Each of the walls that keep files and network away holds without the other.
WITHOUT = {"nothing": (), "namespaces": ("namespaces",), "landlock": ("landlock",), "landlock and seccomp": ("landlock", "seccomp")}


@dataclass
class Outside:
    """What is to stay untouched."""

    folder: Path
    address: str
    tcp: socket.socket
    udp: socket.socket
    unix: socket.socket
    abstract: socket.socket
    bystander: subprocess.Popen[bytes]

    def targets(self) -> dict[str, str]:
        return {
            "secret": str(self.folder / "secret"),
            "folder": str(self.folder),
            "pid": str(self.bystander.pid),
            "tcp": str(self.tcp.getsockname()[1]),
            "udp": str(self.udp.getsockname()[1]),
            "unix": self.address,
            "abstract": self.abstract.getsockname()[1:].decode(),
        }

    def visitors(self) -> list[str]:
        found = []
        for name in ("tcp", "unix", "abstract"):
            try:
                getattr(self, name).accept()[0].close()
                found.append(name)
            except BlockingIOError:
                continue
        try:
            self.udp.recv(100)
            found.append("udp")
        except BlockingIOError:
            pass
        return found

    def contents(self) -> dict[str, object]:
        return {
            entry.name: (entry.stat(follow_symlinks=False).st_mode, entry.stat(follow_symlinks=False).st_mtime, entry.stat().st_size)
            for entry in os.scandir(self.folder)
        }


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("secret", "bait", "other", "marked"):
        (folder / name).write_text(SECRET)
        (folder / name).chmod(0o600)
    monkeypatch.setenv("TOWLINE_SECRET", SECRET)
    tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    unix, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    bystander = subprocess.Popen(["sleep", "600"])
    # An address has room for a hundred bytes, and the test's own folder may lie deeper.
    place = tempfile.TemporaryDirectory(prefix="towline-", dir="/tmp")
    address = f"{place.name}/socket"
    try:
        for end, name in ((tcp, ("127.0.0.1", 0)), (udp, ("127.0.0.1", 0)), (unix, address), (abstract, f"\0towline-{os.getpid()}")):
            end.bind(name)
            end.setblocking(False)
        for end in (tcp, unix, abstract):
            end.listen()
        yield Outside(folder, address, tcp, udp, unix, abstract, bystander)
    finally:
        bystander.kill()
        bystander.wait()
        for end in (tcp, udp, unix, abstract):
            end.close()
        place.cleanup()


def tried(outside: Outside, scratch: Path, *, trusted: bool = False, without: Sequence[str] = ()) -> dict[str, str]:
    scratch.mkdir()
    # Its own file, which everybody may write to where no wall is.
    script = scratch.with_name("attempts.py")
    shutil.copyfile(ATTEMPTS, script)
    script.chmod(0o666)
    walls = Walls(reads=(script,), writes=(scratch,))
    words = [sys.executable, str(script), json.dumps(outside.targets())]
    process, _ = launch_behind(words, (), walls, trusted=trusted, without=without)
    code = process.wait(120)
    assert code == 0, (scratch / "said.log").read_text()
    return json.loads((scratch / "outcome.json").read_text())


@pytest.mark.parametrize("without", WITHOUT.values(), ids=[f"without {name}" for name in WITHOUT])
def test_no_attempt_gets_out(outside: Outside, tmp_path: Path, without: Sequence[str]) -> None:
    before = outside.contents()

    outcomes = tried(outside, tmp_path / "scratch", without=without)

    # With no more than a file tree of its own a program may leave links for itself; nobody follows them.
    harmless = {"leave a link in scratch", "leave a pipe in scratch", "make a user namespace", "change times", "change a mode"}
    allowed = harmless if "seccomp" in without else {"leave a pipe in scratch"} if "landlock" in without else set()
    assert {name for name, outcome in outcomes.items() if outcome == "done"} <= allowed
    assert outside.visitors() == []
    assert outside.contents() == before
    assert (outside.folder / "secret").read_text() == SECRET
    assert outside.bystander.poll() is None


def test_the_same_attempts_succeed_without_walls(outside: Outside, tmp_path: Path) -> None:
    outcomes = tried(outside, tmp_path / "scratch", trusted=True)

    failed = {name: outcome for name, outcome in outcomes.items() if outcome != "done"}
    assert BOUND_ALWAYS <= set(failed) <= BOUND_ALWAYS | NOT_FOR_ALL, failed
    assert set(outside.visitors()) == {"tcp", "udp", "unix", "abstract"}
    assert (outside.folder / "dropped").read_text() == "evil"
