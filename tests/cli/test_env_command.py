"""`towline env`: an environment appears when it is whole, however its maker ends; pip runs for real, on a wheel made here."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import Run

from towline.app.environments.listing import environments
from towline.app.environments.recipes import RECIPES, Recipe
from towline.core.environments import python_of
from towline.core.errors import MissingExtra

TIMEOUT_S = 180
# A build that says that it runs, and goes on when it is told to.
BACKEND = """
import os, zipfile

def build_wheel(folder, *_):
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "started"), "w") as file:
        file.write("started")
    with open(os.path.join(here, "go"), "rb", buffering=0) as file:
        file.read(1)
    name = "towline_slow-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("towline_slow.py", "")
        wheel.writestr("towline_slow-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: towline-slow\\nVersion: 1.0\\n")
        wheel.writestr("towline_slow-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("towline_slow-1.0.dist-info/RECORD", "")
    return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "towline-slow"
version = "1.0"
"""
MAKER = """
import sys
from towline.app.environments import recipes as table
table.RECIPES["torch"] = table.Recipe("torch", "", (sys.argv.pop(1),), ("json",), 1)
from towline.cli.main import main
sys.exit(main())
"""


def wheel(folder: Path, name: str, code: str = "") -> None:
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{module}.py", code)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def recipe(*requirements: str, modules: tuple[str, ...] = ("json",), disk_bytes: int = 1) -> Recipe:
    return Recipe("torch", "a test", requirements, modules, disk_bytes)


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where environments go; pip knows no index, only a folder with three wheels."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "towline-tiny", "answer = 42")
    wheel(wheels, "towline-more")
    wheel(wheels, "towline-broken", "raise OSError('libtiny.so.1: cannot open shared object file')")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("TOWLINE_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.setitem(RECIPES, "torch", recipe("towline-tiny==1.0", modules=("towline_tiny",)))
    return tmp_path / "environments"


@dataclass
class Slow:
    """A requirement whose build stops half-way until it may go on."""

    requirement: str
    started: int
    go: int

    def wait_until_started(self) -> None:
        assert select.select([self.started], [], [], TIMEOUT_S)[0], "the build never started"
        assert os.read(self.started, 100) == b"started"

    def let_go(self) -> None:
        os.write(self.go, b"go")


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    project = tmp_path / "slow"
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "backend.py").write_text(BACKEND)
    for name in ("started", "go"):
        os.mkfifo(project / name)
    started = os.open(project / "started", os.O_RDONLY | os.O_NONBLOCK)
    # Opened both ways, and kept: the word waits for a build that says that it runs before it listens.
    go = os.open(project / "go", os.O_RDWR)
    yield Slow(f"towline-slow @ file://{project}", started, go)
    os.close(go)
    os.close(started)


@pytest.fixture
def maker(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`maker(requirement)` runs `towline env create torch` in a process of its own, with this requirement in the recipe."""
    started: list[subprocess.Popen[str]] = []

    def start(requirement: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", MAKER, requirement, "env", "create", "torch"]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def left(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if not one.name.endswith(".lock"))


def test_an_environment_is_made_once_and_found_by_whoever_needs_it(towline: Run, folder: Path) -> None:
    with pytest.raises(MissingExtra, match="'torch' environment"):
        python_of("torch")

    made = towline("env", "create", "torch")
    assert made.code == 0, made.err
    assert {script.name.rstrip("0123456789.") for script in (folder / "torch" / "bin").iterdir()} == {"python"}
    assert "Have towline_tiny-1.0" in made.err
    code = "import towline_tiny, sys; print(towline_tiny.answer, sys.prefix)"
    assert subprocess.check_output([python_of("torch"), "-c", code], text=True).split() == ["42", str(folder / "torch")]

    whole = (folder / "torch" / "ready.json").stat().st_ino
    again = towline("env", "create", "torch", "--json").json()
    assert again["existed"] is True
    assert again["created"]["packages"] == ["towline_tiny 1.0"]
    assert again["created"]["size_bytes"] > 0
    assert (folder / "torch" / "ready.json").stat().st_ino == whole
    assert left(folder) == ["torch"]


def test_one_made_from_an_older_recipe_is_said_to_be_out_of_date_and_made_anew_with_what_was_added(
    towline: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert towline("env", "create", "torch", "--with", "towline-more").code == 0
    states = {one["name"]: one["state"] for one in towline("env", "ls", "--json").json()["environments"]}
    assert states.pop("torch") == "ready"
    assert set(states.values()) == {"missing"}

    monkeypatch.setitem(RECIPES, "torch", recipe("towline-tiny>=1.0"))
    listed = towline("env", "ls")
    assert "out of date" in listed.out
    assert "towline env create torch" in listed.err
    assert python_of("torch")

    made = towline("env", "create", "torch", "--json").json()
    assert made["existed"] is False
    assert (made["created"]["added"], made["created"]["state"]) == (["towline-more"], "ready")
    assert "towline_more 1.0" in made["created"]["packages"]
    assert left(folder) == ["torch"]


def test_removing_gives_the_room_back_and_the_second_time_there_is_none(towline: Run, folder: Path) -> None:
    towline("env", "create", "torch")

    assert towline("env", "rm", "torch", "--json").json()["removed"]["name"] == "torch"
    assert left(folder) == []
    assert towline("env", "rm", "torch").code == 4
    assert towline("env", "rm", "../home").code == 4


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (recipe("towline-nothing==1.0"), "No matching distribution found for towline-nothing==1.0"),
        (recipe("towline-broken", modules=("towline_broken",)), "libtiny.so.1: cannot open shared object file"),
        (recipe("towline-tiny", disk_bytes=1 << 60), "MiB are free"),
    ],
    ids=["pip fails", "what was installed does not work", "the disk is too small"],
)
def test_what_cannot_be_made_is_one_clear_line_and_leaves_nothing(
    towline: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, asked: Recipe, why: str
) -> None:
    monkeypatch.setitem(RECIPES, "torch", asked)

    ran = towline("env", "create", "torch")

    assert ran.code == 1
    errors = [line for line in ran.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert why in errors[0]
    assert "Traceback" not in ran.err
    assert left(folder) == []


def test_a_failed_attempt_leaves_the_environment_that_there_was(towline: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    towline("env", "create", "torch")
    monkeypatch.setitem(RECIPES, "torch", recipe("towline-nothing"))

    assert towline("env", "create", "torch").code == 1

    assert subprocess.check_output([python_of("torch"), "-c", "import towline_tiny as t; print(t.answer)"]) == b"42\n"


def test_names_and_pythons_that_are_none_are_usage(towline: Run, folder: Path) -> None:
    unknown = towline("env", "create", "jaxx")
    assert unknown.code == 2
    assert "tensorflow" in unknown.err
    assert towline("env", "create", "torch", "--python", "no-such-python").code == 2
    assert towline("env", "create", "torch", "--python", "false").code == 2
    assert left(folder) == []


@pytest.mark.parametrize(("how", "code", "state"), [(signal.SIGKILL, -9, "half made"), (signal.SIGTERM, 143, "missing")])
def test_a_maker_that_is_killed_half_way_leaves_nothing_that_looks_ready(
    towline: Run, folder: Path, maker: Callable[..., subprocess.Popen[str]], slow: Slow, how: signal.Signals, code: int, state: str
) -> None:
    process = maker(slow.requirement)
    slow.wait_until_started()
    assert environments()[0].state == "being made"
    assert towline("env", "rm", "torch").code == 5

    process.send_signal(how)
    assert process.wait(TIMEOUT_S) == code

    # pip goes with its maker, and with it the lock.
    deadline = time.monotonic() + TIMEOUT_S
    while environments()[0].state == "being made":
        assert time.monotonic() < deadline
    assert environments()[0].state == state
    with pytest.raises(MissingExtra):
        python_of("torch")
    slow.let_go()
    assert towline("env", "create", "torch").code == 0
    assert left(folder) == ["torch"]


def test_of_two_makers_the_second_waits_and_finds_it_made(folder: Path, maker: Callable[..., subprocess.Popen[str]], slow: Slow) -> None:
    first = maker(slow.requirement)
    slow.wait_until_started()
    second = maker(slow.requirement)
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()

    slow.let_go()

    made, existed = first.communicate(timeout=TIMEOUT_S), second.communicate(timeout=TIMEOUT_S)
    assert (first.returncode, second.returncode) == (0, 0), (made, existed)
    assert "made in" in made[0]
    assert "was there already" in existed[0]
