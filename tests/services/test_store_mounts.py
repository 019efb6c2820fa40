"""The store on disks that are full or read-only: small file systems of our own, in a mount namespace of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STORE_TESTS = str(Path(__file__).parent.parent / "store")

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting needs root and unshare"),
]

PREAMBLE = f"""
import os, sys
sys.path.insert(0, {STORE_TESTS!r})
from pathlib import Path
from store_making import add, complaints, fill, state
from towline.core.errors import TowlineError
from towline.core.refs import Ref
from towline.store.sqlite import open_store
root = Path(sys.argv[1])
"""
# For each number of free pages: fill a staged folder, fill the disk but for those, publish.
FULL = (
    PREAMBLE
    + """
refused = 0
with open_store(root / "home") as store:
    add(store, "a", "first")
    for free_pages in range(40):
        old = state(store)
        try:
            with store.stage() as folder:
                fill(folder, free_pages)
                with open(root / "ballast", "wb", buffering=0) as ballast:
                    try:
                        while True:
                            ballast.write(bytes(4096))
                    except OSError:
                        pass
                    ballast.truncate(max(0, ballast.tell() - 4096 * free_pages))
                store.publish(folder, "a", actor="tester")
        except TowlineError as error:
            assert error.code == "DISK_FULL", error.code
            assert state(store) == old
            refused += 1
        assert complaints(store) == [], complaints(store)
        (root / "ballast").unlink()
        # Without opening again: the space is back, so is the store.
        add(store, "b", free_pages)
with open_store(root / "home") as store:
    assert complaints(store) == []
print("refused", refused, "of 40")
assert 0 < refused < 40
"""
)
READ_ONLY = (
    PREAMBLE
    + """
with open_store(root / "home", read_only=True) as store:
    assert store.numbers("a") == (1,)
    assert list(store.check(deep=True)) == []
try:
    open_store(root / "home")
except TowlineError as error:
    assert error.code == "READ_ONLY", error.code
else:
    raise AssertionError("it was opened")
"""
)


def run_on_mount(script: str, root: Path, mount: str) -> None:
    shell = f'set -e; {mount}; exec "$0" -c "$1" "$2"'
    command = ["unshare", "-m", "sh", "-c", shell, sys.executable, script, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine does not let us mount: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr


def test_a_full_disk_refuses_an_import_and_recovers_without_a_restart(tmp_path: Path) -> None:
    run_on_mount(FULL, tmp_path, 'mount -t tmpfs -o size=4m tmpfs "$2"')


def test_a_read_only_disk_is_read_and_named_when_it_shall_be_written(tmp_path: Path) -> None:
    make = PREAMBLE + "with open_store(root / 'home') as store: add(store, 'a', 1)\n"
    subprocess.run([sys.executable, "-c", make, str(tmp_path)], check=True, timeout=300)

    run_on_mount(READ_ONLY, tmp_path, 'mount --bind "$2" "$2"; mount -o remount,ro,bind "$2"')
