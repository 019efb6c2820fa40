"""The fork server, alone on its channel: what it makes has its imports, is told what was said, and holds nothing of another's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from towline.core import channel

# Of a process that was forked: what it sees of itself, on its stdout.
TOLD = """
import json, os, sys

def main(arguments):
    held = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    name = open("/proc/self/comm").read().strip()
    libraries = [name for name in ("numpy", "msgspec", "onnxruntime", "sqlite3") if name in sys.modules]
    print(json.dumps({"arguments": arguments, "argv": sys.argv, "pid": os.getpid(), "name": name, "libraries": libraries, "held": held}))
"""


@pytest.fixture
def end(tmp_path: Path) -> Iterator[socket.socket]:
    """Our end of the channel of a fork server that finds module `told`. What it is told before it looks waits in the channel."""
    (tmp_path / "told.py").write_text(TOLD)
    ours, theirs = channel.channel()
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "towline.engines.forks", "fork-server", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL)
    theirs.close()
    with ours:
        yield ours
    assert process.wait(120) == 0, "it ends when its channel does"


def wish(end: socket.socket, *words: str, engine: str = "", tell: dict[str, Any] | None = None, **places: int) -> None:
    message = {"name": "towline-told", "words": ["told", *words], "places": list(places), "engine": engine, "tell": tell}
    channel.send(end, message, list(places.values()))


def told_by(end: socket.socket, *words: str, engine: str = "") -> dict[str, Any]:
    """What a process of that wish says of itself."""
    read, write = os.pipe()
    wish(end, *words, engine=engine, stdout=write)
    os.close(write)
    with open(read) as output:
        found: dict[str, Any] = json.loads(output.read())
    return found


def test_the_first_start_before_the_engine_is_loaded_and_a_worker_after(end: socket.socket) -> None:
    first = told_by(end, "first")
    worker = told_by(end, "worker", engine="onnxruntime")

    assert first["libraries"] == ["numpy", "msgspec"]
    assert worker["libraries"] == ["numpy", "msgspec", "onnxruntime"]


def test_it_is_told_its_words_and_name_and_where_its_descriptors_are(end: socket.socket) -> None:
    read, write = os.pipe()
    with open(read):
        out, into = os.pipe()
        wish(end, "seven", "{pipe}", tell={"to": "x", "wish": 7}, stdout=into, **{"{pipe}": write})
        os.close(into)
        with open(out) as output:
            seen = json.loads(output.read())
        os.close(write)
        received = channel.receive(end)

    assert received is not None
    assert received[0] == {"to": "x", "wish": 7, "pid": seen["pid"]}
    assert seen["name"] == "towline-told"
    assert seen["argv"] == ["told", *seen["arguments"]]
    assert seen["arguments"][0] == "seven"
    assert int(seen["arguments"][1]) > 2


def test_it_inherits_no_channel_of_the_fork_server_and_nothing_that_another_was_given(end: socket.socket) -> None:
    read, write = os.pipe()
    with open(read), open(write, "w") as kept:
        wish(end, "earlier", **{"{pipe}": kept.fileno()})
        held = told_by(end, "later")["held"]

        assert not [link for link in held if link.startswith("socket:")]
        assert os.readlink(f"/proc/self/fd/{kept.fileno()}") not in held
