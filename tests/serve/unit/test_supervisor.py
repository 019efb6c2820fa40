"""Who starts whom: the fork server makes front and controller the first time, and nobody depends on it afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# A front and a controller that tell how they were made and wait for their end; a fork server that ends at once; the supervisor of all.
MEMBER = """
import os, socket, sys
from towline.core import channel
from towline.core.process import become

def main(arguments):
    role, end, launch = arguments[0], socket.socket(fileno=int(arguments[1])), arguments[-1]
    become("towline-" + role, parent=os.getppid())
    how = "forked" if "towline.engines.forks" in sys.orig_argv else "started"
    said = {"role": role, "how": how, "launch": launch, "pid": os.getpid(), "parent": os.getppid()}
    channel.send(end, {"to": "supervisor", "do": "note", **said})
    while (received := channel.receive(end)) and received[0].get("do") != "drain":
        pass

if __name__ == "__main__":
    sys.exit(None if sys.argv[1] == "forks" else main(sys.argv[1:]))
"""
SUPERVISOR = """
import json, socket, sys
from towline.serve.supervisor.births import Commands
from towline.serve.supervisor.supervisor import Supervisor

commands = Commands(
    python=[sys.executable, "-P", "-m"],
    front=["member", "front", "{channel}", "{listener}", "{launch}"],
    controller=["member", "controller", "{channel}", "{launch}"],
    fork_server=json.loads(sys.argv[1]),
    worker=[],
)
say = lambda message: print(json.dumps(message), flush=True)
sys.exit(Supervisor(commands, socket.create_server(("127.0.0.1", 0)), drain_timeout_s=5, say=say).run())
"""
FORK_SERVER = ["towline.engines.forks", "fork-server", "{channel}"]
Supervised = Callable[[list[str]], subprocess.Popen[str]]


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    (tmp_path / "member.py").write_text(MEMBER)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    running: list[tuple[subprocess.Popen[str], threading.Timer]] = []

    def start(fork_server: list[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SUPERVISOR, json.dumps(fork_server)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
        # Who waits for what is never said sees the end of the pipe.
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        running.append((process, watchdog))
        return process

    yield start
    for process, watchdog in running:
        watchdog.cancel()
        with process:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def notes(process: subprocess.Popen[str], count: int) -> dict[str, Any]:
    """What `count` members said of themselves, by role; whatever else the supervisor says is passed over."""
    assert process.stdout is not None
    found: dict[str, Any] = {}
    for line in process.stdout:
        message = json.loads(line)
        if message["do"] == "note":
            found[message["role"]] = message
        if len(found) == count:
            break
    return found


def test_front_and_controller_are_forked_the_first_time_and_are_the_supervisors_own_children(supervised: Supervised) -> None:
    supervisor = supervised(FORK_SERVER)
    found = notes(supervisor, 2)

    assert sorted(found) == ["controller", "front"]
    assert {(one["how"], one["launch"], one["parent"]) for one in found.values()} == {("forked", "1", supervisor.pid)}


def test_one_that_was_forked_and_dies_is_noticed_and_started_anew_whatever_the_fork_server_does(supervised: Supervised) -> None:
    supervisor = supervised(FORK_SERVER)
    front = notes(supervisor, 2)["front"]
    os.kill(front["pid"], signal.SIGKILL)
    again = notes(supervisor, 1)["front"]

    assert (again["how"], again["launch"]) == ("started", "2")


def test_without_a_fork_server_they_are_started_all_the_same(supervised: Supervised) -> None:
    found = notes(supervised(["member", "forks"]), 2)

    assert {role: one["how"] for role, one in found.items()} == {"front": "started", "controller": "started"}
