"""Below the store: killed and refused at every system call that writes, and everything acknowledged was synced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

STORE_TESTS = str(Path(__file__).parent.parent / "store")
sys.path.insert(0, STORE_TESTS)

from changes import carry_out, prepare  # noqa: E402
from store_making import HandClock, complaints, fast_folder, state  # noqa: E402

from towline.store.disk import Disk  # noqa: E402
from towline.store.sqlite import open_store  # noqa: E402

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (apt-get install strace)"),
]

WRITING = [
    *("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("fchmod", "chmod", "fchmodat"),
]
CODES = {"DISK_FULL": 10, "STORE_IO": 11, "READ_ONLY": 12}
OTHER_CODE = 19
# Makes one change and ends at once: 0 acknowledged, else which named error came.
CHANGER = f"""
import os, sys
sys.path.insert(0, {STORE_TESTS!r})
from pathlib import Path
import towline.core.digest, towline.core.manifest, shutil
from changes import CHANGES
from store_making import HandClock
from towline.core.errors import TowlineError
from towline.store.sqlite import open_store
try:
    store = open_store(Path(sys.argv[2]), clock=HandClock())
    CHANGES[sys.argv[1]](store)
    os.write(2, b"acknowledged")
    store.close()
except TowlineError as error:
    os._exit({CODES!r}.get(error.code, {OTHER_CODE}))
os._exit(0)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as made:
        yield Path(made)


def change_under_strace(change: str, home: Path, *options: str) -> int:
    command = ["strace", "-f", "-qq", "-o", str(home) + ".trace", *options, sys.executable, "-c", CHANGER, change, str(home)]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=environ, stderr=subprocess.DEVNULL, check=False, timeout=300).returncode


def calls(change: str, home: Path) -> Counter[str]:
    """How often the change makes each writing call, from the start of its process to the end."""
    assert change_under_strace(change, home, "-e", "trace=" + ",".join(WRITING)) == 0
    lines = Path(f"{home}.trace").read_text(errors="replace").splitlines()
    return Counter(found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line)))


def read_state(home: Path) -> dict[str, object]:
    with open_store(home, clock=HandClock()) as store:
        assert complaints(store) == []
        return state(store)


def old_and_new(change: str, folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    prepare(change, folder / "start")
    shutil.copytree(folder / "start", folder / "new")
    carry_out(change, folder / "new", Disk())
    shutil.copytree(folder / "start", folder / "old")
    return read_state(folder / "old"), read_state(folder / "new")


@pytest.mark.parametrize("change", ["import", "removal", "alias moved"])
def test_killed_at_any_writing_call_the_state_is_old_or_new(folder: Path, change: str) -> None:
    old, new = old_and_new(change, folder)
    shutil.copytree(folder / "start", folder / "counted")
    counted = calls(change, folder / "counted")
    assert counted["fdatasync"] + counted["fsync"] > 0

    for call, count in counted.items():
        for when in range(1, count + 1):
            home = folder / "killed"
            shutil.copytree(folder / "start", home)
            code = change_under_strace(change, home, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}")
            found = read_state(home)
            assert code in (0, 137, -9), f"{call} {when}"
            assert found == new or (found == old and code != 0), f"{call} {when}"
            shutil.rmtree(home)


@pytest.mark.parametrize("change", ["import", "removal", "alias moved"])
def test_refused_at_any_writing_call_the_error_is_named_and_the_state_is_whole(folder: Path, change: str) -> None:
    old, new = old_and_new(change, folder)
    shutil.copytree(folder / "start", folder / "counted")
    counted = calls(change, folder / "counted")

    for call, count in counted.items():
        for when in range(1, count + 1):
            error = ("ENOSPC", "EIO")[when % 2] if call not in ("fsync", "fdatasync") else "EIO"
            home = folder / "failed"
            shutil.copytree(folder / "start", home)
            code = change_under_strace(change, home, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}")
            found = read_state(home)
            if code == 1:
                # One of the script's own calls: it fills the staged folder and says "acknowledged".
                assert call in ("write", "mkdir")
                assert found in (old, new)
            else:
                assert code in (0, *CODES.values()), f"{call} {when} {error}"
                assert found == (old if code else new), f"{call} {when} {error}"
            shutil.rmtree(home)


@pytest.mark.parametrize("change", ["import", "removal", "alias moved", "event"])
def test_all_that_was_written_is_synced_before_it_is_acknowledged(folder: Path, change: str) -> None:
    home = folder / "home"
    prepare(change, home)
    assert change_under_strace(change, home, "-y", "-e", "trace=" + ",".join(WRITING)) == 0

    waiting: set[str] = set()
    synced = 0
    for line in Path(f"{home}.trace").read_text(errors="replace").splitlines():
        if "acknowledged" in line:
            break
        on_handle = re.match(r"\d+ +(\w+)\(\d+<(.*?)>", line)
        # SQLite's index of the log (-shm) is made anew after a crash, and never synced.
        if on_handle and on_handle[2].startswith(str(home)) and not on_handle[2].endswith("-shm"):
            if on_handle[1] in ("fsync", "fdatasync"):
                waiting.discard(on_handle[2])
                synced += 1
            elif on_handle[1] in ("write", "pwrite64", "ftruncate"):
                waiting.add(on_handle[2])
        elif moved := re.match(r'\d+ +rename\("(.*?)", "(.*?)"\) = 0', line):
            waiting = {path.replace(moved[1], moved[2], 1) for path in waiting}
            waiting.add(str(home / "versions"))
    else:
        pytest.fail("the change was never acknowledged")
    assert synced > 0
    assert waiting == set()
