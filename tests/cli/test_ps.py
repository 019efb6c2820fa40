"""`towline ps` believes a file only while its server lives and holds its lock."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Run

HOLD_LOCK = """
import fcntl, os, sys
lock = open(sys.argv[1] % os.getpid(), "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server_pid(home: Path) -> Iterator[int]:
    """A process that holds the lock a server would hold."""
    (home / "run").mkdir(parents=True)
    lock = str(home / "run" / "server-%d.lock")
    process = subprocess.Popen([sys.executable, "-c", HOLD_LOCK, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    yield int(process.stdout.readline())
    process.stdin.close()
    process.wait()
    process.stdout.close()


def write(home: Path, pid: int, **changes: Any) -> Path:
    model = {"name": "digits", "version": 3, "digest": "sha256:ab", "state": "ready", "since_s": 1.7e9, "pid": 77, "error": ""}
    content = {
        "schema": "towline.server/1",
        "pid": pid,
        "url": "http://127.0.0.1:8123",
        "grpc_url": None,
        "started_s": 1.7e9,
        "models": [model],
    }
    file = home / "run" / f"server-{pid}.json"
    file.write_text(json.dumps(content | changes))
    return file


def test_no_server_is_said_on_stderr(towline: Run) -> None:
    ran = towline("ps")

    assert (ran.code, ran.out) == (0, "")
    assert "No server is running" in ran.err
    assert towline("ps", "--json").json() == {"schema": "towline.ps/1", "servers": []}


def test_a_live_server_and_its_models_are_listed(towline: Run, home: Path, server_pid: int) -> None:
    write(home, server_pid)

    row = towline("ps").out.splitlines()[1].split()
    server = towline("ps", "--json").json()["servers"][0]

    assert row[:2] == ["digits:3", "ready"]
    assert row[-3:] == ["77", "http://127.0.0.1:8123", str(server_pid)]
    assert (server["pid"], server["models"][0]["pid"]) == (server_pid, 77)


def test_a_server_without_models_and_one_that_failed_are_told(towline: Run, home: Path, server_pid: int) -> None:
    write(home, server_pid, models=[])
    assert towline("ps").out.splitlines()[1].startswith("-")

    failed = {"name": "m", "version": 1, "digest": "", "state": "failed", "since_s": 1, "pid": None, "error": "\x1b[2Jno memory"}
    write(home, server_pid, models=[failed])
    ran = towline("ps")

    assert "error: m:1 on http://127.0.0.1:8123: \\x1b[2Jno memory" in ran.err


def test_what_a_dead_server_left_is_ignored_and_removed(towline: Run, home: Path) -> None:
    (home / "run").mkdir(parents=True)
    # Our own pid lives, but holds no lock: a pid alone proves nothing.
    file = write(home, os.getpid())
    lock = file.with_suffix(".lock")
    lock.touch()

    assert towline("ps", "--json").json()["servers"] == []
    assert not file.exists()
    assert not lock.exists()


def test_a_file_without_a_lock_file_is_ignored(towline: Run, home: Path) -> None:
    (home / "run").mkdir(parents=True)
    write(home, os.getpid())

    assert towline("ps", "--json").json()["servers"] == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": "towline.server/2"}', '{"schema": "towline.server/1", "models": 7}'])
def test_a_file_that_is_none_of_ours_hides_no_other(towline: Run, home: Path, server_pid: int, content: str) -> None:
    write(home, server_pid)
    other = home / "run" / "server-1.json"
    other.write_text(content)
    with other.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert [server["pid"] for server in towline("ps", "--json").json()["servers"]] == [server_pid]


def test_a_dead_pid_is_not_listed_even_if_its_lock_is_held(towline: Run, home: Path) -> None:
    (home / "run").mkdir(parents=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    file = write(home, gone.pid)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert towline("ps", "--json").json()["servers"] == []
