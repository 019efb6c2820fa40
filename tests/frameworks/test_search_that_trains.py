"""A search that trains judges what came of it, hands it over with its origin, and after a kill goes on with the training it was in."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import towline
import towline.app
from towline.app.optimizing import optimize as optimizing
from towline.app.optimizing import workshop
from towline.app.optimizing.optimize import Lessons, Limits
from towline.optimize.base import Chain
from towline.optimize.distill import Distill
from towline.optimize.prune import Prune
from towline.optimize.quantize import Int8
from towline.optimize.training.settings import Training
from towline.store.sqlite import open_store

pytestmark = pytest.mark.frameworks

DEMO = Path(towline.app.__file__).parent / "demo" / "data"
WAIT_S = 300


@pytest.fixture
def home(environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's digits network; half of its digits to train on, half to judge by."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = json.loads((DEMO / "digits_200.json").read_bytes())
    images, labels = np.array(found["images"], np.float32).reshape(-1, 1, 8, 8), np.array(found["labels"], np.int64)
    np.savez(tmp_path / "train.npz", image=np.tile(images[:100], (20, 1, 1, 1)), labels=np.tile(labels[:100], 20))
    np.savez(tmp_path / "judge.npz", image=images[100:], labels=labels[100:])
    towline.import_model(DEMO / "digits.onnx", name="digits", home=tmp_path / "home")
    return tmp_path / "home"


def test_what_was_trained_and_quantised_is_handed_over_with_its_origin(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for place in (optimizing, workshop):
        # Whatever the clock says: the last that is right counts as faster.
        monkeypatch.setattr(place, "chosen", lambda tried: next((one for one in reversed(tried) if one.fits), None))
    training = Training(epochs=2)
    pruned = Chain((Prune(0.5, training=training),))

    found = towline.optimize(
        "digits",
        tmp_path / "judge.npz",
        lessons=Lessons(train=str(tmp_path / "train.npz")),
        passes=[pruned, pruned.then(Int8()), Distill("mobile", 0.5, training=training)],
        limits=Limits(max_drop=0.2),
        metric="f1",
        home=home,
    )

    assert [one.tried.name for one in found.tried] == ["prune", "prune + int8", "distill"]
    assert all(one.speedup > 0 for one in found.tried), [one.because for one in found.tried]
    assert all(len(one.curves["loss"]) == len(one.curves["validation f1"]) == 2 for one in found.tried)
    assert 0.3 < found.tried[0].curves["validation f1"][-1] <= 1
    assert found.result is not None
    assert found.result.version.manifest.parents == (found.version.digest,)
    assert found.result.version.manifest.origin.tools["pass"].startswith(("prune", "distill"))
    x = np.load(tmp_path / "judge.npz")["image"]
    was, made = (towline.load(f"digits:{number}", home=home).predict(x).argmax(axis=1) for number in (1, 2))
    assert (was == made).mean() > 0.7


SEARCH = """
import os, signal, sys, towline
from pathlib import Path
from towline.app.optimizing.optimize import Lessons, Limits
from towline.optimize.prune import Prune
from towline.optimize.training.settings import Training

folder, home, does_die = sys.argv[1:]
lessons, passes = Lessons(f"{folder}/train.npz"), [Prune(0.5, training=Training(epochs=16))]

def say(sentence):
    print(sentence, file=sys.stderr, flush=True)
    # Whoever else would kill it then might come when the training is done.
    if does_die and any(Path(home).glob("optimize/**/checkpoint")):
        os.kill(os.getpid(), signal.SIGKILL)

towline.optimize("digits", f"{folder}/judge.npz", lessons=lessons, passes=passes, limits=Limits(1.0), home=home, say=say)
"""


def searched(folder: Path, home: Path, *, until_it_trains: bool) -> subprocess.CompletedProcess[str]:
    # What it hands over is the clock's affair, which is not asked here.
    words = [sys.executable, "-c", SEARCH, str(folder), str(home), "dies" if until_it_trains else ""]
    return subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_a_search_that_is_killed_while_it_trains_leaves_no_trainer_and_goes_on_with_the_training(home: Path, tmp_path: Path):
    killed = searched(tmp_path, home, until_it_trains=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not _trainers(home), "who trains must not outlive who asked for it"
    assert checkpoints(home), "a kill forgets nothing"
    again = searched(tmp_path, home, until_it_trains=False)
    assert again.returncode == 0, again.stderr
    done = re.search(r"goes on after (\d+) of 16 epochs", again.stderr)
    assert done, again.stderr
    assert int(done[1]) < 16, "a trainer that outlived it came to the end"
    assert not checkpoints(home), "a search that came to its end keeps nothing"
    with open_store(home) as store:
        tried = store.events(kind="version.optimized")[-1].data["tried"]
    assert [one["pass"] for one in tried] == ["prune"]
    assert tried[0]["speedup"] > 0


def checkpoints(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob("optimize/**/*") if path.is_file() and path.suffix not in (".jsonl", ".part"))


def _trainers(home: Path) -> list[int]:
    """Processes of passes that work in this store, once they have had the time to notice."""
    until_s = time.monotonic() + WAIT_S
    while True:
        found = [pid for pid in os.listdir("/proc") if pid.isdigit() and _works_in(int(pid), home)]
        if not found or time.monotonic() > until_s:
            return [int(pid) for pid in found]
        time.sleep(0.02)


def _works_in(pid: int, home: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"towline.optimize.host" in words and str(home).encode() in words
