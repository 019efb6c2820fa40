"""The walls around what a user starts who is not root, tried from a test that is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
USER = 54321
DRIVER = """
import json, os, shutil, subprocess, sys
from pathlib import Path
base = Path(sys.argv[1])
sys.path[:0] = [str(base / "package")]
from towline.core.walls import Walls
from towline.secure.sandbox.launch import described, launch_behind
folder, scratch, script = base / "home", base / "scratch", base / "attempts.py"
folder.mkdir(), scratch.mkdir()
for name in ("secret", "bait", "other", "marked"):
    (folder / name).write_text("secret")
bystander = subprocess.Popen(["sleep", "600"])
targets = {"secret": folder / "secret", "folder": folder, "pid": bystander.pid, "tcp": 9, "udp": 9, "unix": folder / "x", "abstract": "x"}
words = [sys.executable, str(script), json.dumps({name: str(value) for name, value in targets.items()})]
process, told = launch_behind(words, (), Walls(reads=(script,), writes=(scratch,)), without=tuple(sys.argv[2:]))
process.wait(120)
alive = bystander.poll() is None
bystander.kill()
bystander.wait()
names = sorted(path.name for path in folder.iterdir())
print(json.dumps([json.loads((scratch / "outcome.json").read_text()), told, names, alive]))
"""


def python_for_all() -> str:
    """A Python that every user may run; that of the tests may lie in root's home."""
    for name in (sys.executable, "/usr/bin/python3.11", "/usr/bin/python3", "/usr/local/bin/python3"):
        tried = (
            subprocess.run([name, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], user=USER, check=False)
            if _may_run(name)
            else None
        )
        if tried is not None and tried.returncode == 0:
            return name
    raise AssertionError("no Python 3.11 that every user may run: apt-get install python3.11")


def _may_run(name: str) -> bool:
    return subprocess.run(["test", "-x", name], user=USER, group=USER, extra_groups=[], check=False).returncode == 0


@pytest.mark.parametrize("without", [(), ("namespaces",), ("landlock",)], ids=["all walls", "without namespaces", "without landlock"])
def test_no_attempt_gets_out_for_a_user_who_is_not_root(without: tuple[str, ...]) -> None:
    assert os.geteuid() == 0, "make test-services runs as root"
    base = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        package = base / "package" / "towline"
        for part in ("core", "secure"):
            shutil.copytree(ROOT / "src" / "towline" / part, package / part)
        shutil.copyfile(ROOT / "src" / "towline" / "__init__.py", package / "__init__.py")
        shutil.copyfile(ROOT / "tests" / "secure" / "sandbox" / "attempts.py", base / "attempts.py")
        for path in (base, *base.rglob("*")):
            os.chown(path, USER, USER)
        words = [python_for_all(), "-c", DRIVER, str(base), *without]
        ran = subprocess.run(
            words, user=USER, group=USER, extra_groups=[], cwd=base, capture_output=True, text=True, timeout=180, check=False
        )
        assert ran.returncode == 0, ran.stderr
        outcomes, told, names, alive = json.loads(ran.stdout)
    finally:
        shutil.rmtree(base)

    allowed = {"leave a pipe in scratch"} if "landlock" in without else set()
    assert {name for name, outcome in outcomes.items() if outcome == "done"} <= allowed
    assert names == ["bait", "marked", "other", "secret"]
    assert alive
    assert told["nobody"] is False
    assert told["namespaces"] is ("namespaces" not in without)
