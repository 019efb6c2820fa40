"""An import that is killed, whenever that is, leaves the store as it was and no process behind; run again, it succeeds."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import towline
from towline.core.environments import python_of
from towline.store.sqlite import open_store
from towline.testing import tiny_models

pytestmark = pytest.mark.frameworks

# `towline` that stops as it says a word, until it is killed: whoever waits for the word may come late.
COMMAND = """
import os, signal, sys
from towline.cli.main import main

word, write = sys.argv.pop(1), sys.stderr.write

def stopping(text):
    write(text)
    if word and word in text:
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSTOP)

sys.stderr.write = stopping
sys.exit(main())
"""
TRAIN = """
import joblib, sys
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
data, labels = load_digits(return_X_y=True)
joblib.dump(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(data, labels), sys.argv[1])
"""
STEPS = ("Copying", "Reading", "Converting", "Loading", "Trying")
RANDOM_MOMENTS = 6
IMPORT_TIMEOUT_S = 300.0
# The walls end with whoever put them up; a process that was told to go needs a moment.
GONE_TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def source(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "digits.joblib"
    subprocess.run([python_of("tabular"), "-c", TRAIN, path], check=True, timeout=IMPORT_TIMEOUT_S)
    return path


class Import:
    """`towline import`, in a process that can be killed, with a folder for temporary files of its own. It stops at `word`."""

    def __init__(self, source: Path, home: Path, temporary: Path, word: str = "") -> None:
        self._word = word
        environ = {**os.environ, "TOWLINE_HOME": str(home), "TMPDIR": str(temporary)}
        words = [sys.executable, "-c", COMMAND, word, "import", str(source), "--name", "digits"]
        self.process = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0)
        self.said = b""

    def run(self, *, timeout_s: float = IMPORT_TIMEOUT_S) -> None:
        """Until it says its word, ends, or the time is up."""
        assert self.process.stderr is not None
        deadline_s = time.monotonic() + timeout_s
        while not (self._word and self._word.encode() in self.said):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self.process.stderr], [], [], left_s)[0]:
                return
            more = os.read(self.process.stderr.fileno(), 1 << 16)
            if not more:
                return
            self.said += more

    def kill(self) -> set[int]:
        """The processes that it had."""
        self.process.send_signal(signal.SIGSTOP)
        had = set(descendants(self.process.pid))
        self.process.kill()
        self.end()
        return had

    def end(self) -> int:
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait()


def descendants(pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        children.setdefault(parent, []).append(int(folder.name))
    waiting = [pid]
    while waiting:
        found = children.get(waiting.pop(), [])
        waiting += found
        yield from found


def is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def left_of(pids: set[int]) -> set[int]:
    """Those that are still there after a while."""
    deadline_s = time.monotonic() + GONE_TIMEOUT_S
    while (alive := {pid for pid in pids if is_alive(pid)}) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return alive


def stored(home: Path) -> tuple[list[str], int, list[str]]:
    """What a store says that it holds, and what lies in its folder of versions."""
    with open_store(home) as store:
        versions = [f"{version} {version.digest}" for version in store.versions()]
        events = len(list(store.events()))
    return versions, events, sorted(os.listdir(home / "versions"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A store that holds something already."""
    towline.import_model(tiny_models.write(tmp_path, tiny_models.identity(), "before.onnx"), home=tmp_path / "home")
    return tmp_path / "home"


def check(source: Path, home: Path, moment: str | float, tmp_path: Path) -> bool:
    """Kill one import at this moment. Whether it was still at it."""
    temporary = tmp_path / f"temporary-{moment}"
    temporary.mkdir()
    before = stored(home)
    if isinstance(moment, str):
        killed = Import(source, home, temporary, moment)
        killed.run()
    else:
        killed = Import(source, home, temporary)
        killed.run(timeout_s=moment)
    had = killed.kill()
    after = stored(home)

    assert left_of(had) == set(), (moment, killed.said)
    # Nobody sweeps a machine's folder for temporary files: nothing may lie there.
    assert os.listdir(temporary) == [], (moment, killed.said)
    if after == before:
        return killed.process.returncode == -signal.SIGKILL
    # It came after the end, or between the last write and the end: then all of it is there.
    names, folders = ([one.split()[0] for one in after[0]], len(after[2]))
    assert (sorted(names), folders, after[1]) == (["before:1", "digits:1"], 2, before[1] + 1), (moment, killed.said)
    return False


def check_again(source: Path, home: Path, tmp_path: Path) -> None:
    """Nothing is in the way of the next one, which clears up after those before it."""
    temporary = tmp_path / "temporary-again"
    temporary.mkdir()
    again = Import(source, home, temporary)
    again.run()

    assert again.end() == 0, again.said
    assert {line.split()[0] for line in stored(home)[0]} == {"before:1", "digits:1"}
    assert os.listdir(home / "staging") == []
    assert os.listdir(temporary) == []
    assert towline.load("digits", home=home).predict({"X": np.zeros((1, 64), np.float32)})["label"].shape == (1,)


def test_killed_at_each_step_it_leaves_nothing_and_the_next_one_succeeds(source: Path, home: Path, tmp_path: Path) -> None:
    killed = [check(source, home, step, tmp_path) for step in STEPS]

    assert killed == [True] * len(STEPS)
    check_again(source, home, tmp_path)


def test_killed_at_random_moments_it_leaves_nothing_and_the_next_one_succeeds(source: Path, home: Path, tmp_path: Path) -> None:
    moments = sorted(random.uniform(0.1, 2.5) for _ in range(RANDOM_MOMENTS))
    for moment in moments:
        # On a quick machine the last ones come after the end: then there is nothing left to kill.
        if not check(source, home, round(moment, 3), tmp_path):
            break

    check_again(source, home, tmp_path)


def test_what_the_walls_hold_is_gone_with_whoever_put_them_up(source: Path, home: Path, tmp_path: Path) -> None:
    """The converter is a child of a child: it must not outlive the import by being nobody's."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    running = Import(source, home, temporary, "Converting")
    running.run()
    had = running.kill()

    assert had, "no process stood behind the walls at that step"
    assert left_of(had) == set()
