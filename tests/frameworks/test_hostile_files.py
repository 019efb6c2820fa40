"""Files that run code when they are read, each through the whole import: nothing is written, nobody is called, nothing is imported."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hostile_keras
import pytest

from towline.core.environments import python_of
from towline.core.walls import Walls
from towline.secure.sandbox.launch import launch
from towline.store.sqlite import open_store

pytestmark = pytest.mark.frameworks

HERE = Path(__file__).parent
TOWLINE = [sys.executable, "-c", "import sys; from towline.cli.main import main; sys.exit(main())"]
SECRET = "the secret of this machine"
# What imports it is given, and what it is told. The code of an architecture is the user's own, and is no help to the file.
ARCH = "import torch\n\nclass Net(torch.nn.Sequential): ...\n"
REFUSED = {
    "reduce.pth": "would call",
    "nested.pt": "would call",
    "build.pt": "would call",
    "stack-global.pt": "would call",
    "truncated.pt": "torn",
    "zip-in-zip.pt": "torn",
    "module.pt": "would call",
    "dotted.pt": "would call",
    "old.pt": "would call",
    "tar.pt": "a tar archive",
    "seven-zip.pt": "an archive",
    "samples.pt2": "tried to write",
    "run.keras": "'system'",
    "fetch.keras": "'get_file'",
    "lookup.keras": "vocabulary",
}


@dataclass
class Lair:
    folder: Path
    canary: Path
    server: socket.socket

    def visitors(self) -> int:
        count = 0
        while True:
            try:
                self.server.accept()[0].close()
                count += 1
            except BlockingIOError:
                return count


@pytest.fixture(scope="module")
def lair(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Lair]:
    """Hostile files, each of which was loaded plainly first and did what it is for."""
    base = tmp_path_factory.mktemp("lair")
    folder, canary, secret = base / "files", base / "canary", base / "secret"
    folder.mkdir()
    secret.write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        words = [python_of("torch"), str(HERE / "hostile_torch.py"), str(folder), str(canary), str(port)]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert ran.returncode == 0, ran.stderr[-2000:]
        told = json.loads(ran.stdout.splitlines()[-1])
        assert all(told.values()), told
        hostile_keras.write_all(folder, canary, port, secret)
        found = Lair(folder, canary, server)
        assert found.visitors() >= 5
        yield found


def imported(source: Path, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [*TOWLINE, "import", str(source), "--name", "evil", "--home", str(home), *more]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


def untouched(lair: Lair, home: Path) -> None:
    assert not lair.canary.exists()
    assert lair.visitors() == 0
    with open_store(home) as store:
        assert list(store.versions()) == []
        assert list(store.events()) == []
    assert list((home / "staging").iterdir()) == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused_in_one_line_and_does_nothing(lair: Lair, tmp_path: Path, name: str) -> None:
    ran = imported(lair.folder / name, tmp_path)

    assert ran.returncode == 1, ran.stderr
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert REFUSED[name] in line
    assert SECRET not in ran.stderr
    assert "Traceback" not in ran.stderr
    untouched(lair, tmp_path)


def test_what_no_list_knows_is_stopped_by_name_when_it_acts(lair: Lair, tmp_path: Path) -> None:
    # A class of the standard library, which opens a file: with the user's code given, the pickle is read.
    (tmp_path / "net.py").write_text(ARCH)

    ran = imported(lair.folder / "gadget.pt", tmp_path / "home", "--arch", f"{tmp_path / 'net.py'}:Net", "--input", "float32[N,4]")

    assert ran.returncode == 1, ran.stderr
    assert f"tried to write '{lair.canary}"[:40] in ran.stderr
    untouched(lair, tmp_path / "home")


def test_operations_of_tensorflow_come_to_the_walls(environments: Path, tmp_path: Path) -> None:
    """Native code, which no audit hook hears: run straight behind the walls, as if every check before had been got around."""
    secret, scratch, script = tmp_path / "secret", tmp_path / "scratch", tmp_path / "script.py"
    secret.write_text(SECRET)
    scratch.mkdir()
    script.write_text(
        f"""
import json, os
import tensorflow as tf
tf.io.write_file("inside", "allowed")
told = {{}}
for name, act in {{
    "read": lambda: tf.io.read_file({str(secret)!r}),
    "write": lambda: tf.io.write_file({str(tmp_path / "canary")!r}, "evil"),
    "match": lambda: tf.raw_ops.MatchingFiles(pattern={str(tmp_path)!r} + "/s*t").numpy().tolist() or 1 / 0,
}}.items():
    try:
        act()
        told[name] = "done"
    except Exception as error:
        told[name] = type(error).__name__
print(json.dumps(told))
"""
    )

    process = launch([python_of("tensorflow"), str(script)], (), Walls(reads=(script,), writes=(scratch,)))

    assert process.wait(300) == 0, (scratch / "said.log").read_text()[-2000:]
    told = json.loads((scratch / "said.log").read_text().splitlines()[-1])
    assert "done" not in told.values(), told
    assert (scratch / "inside").read_text() == "allowed"
    assert sorted(os.listdir(tmp_path)) == ["scratch", "script.py", "secret"]
