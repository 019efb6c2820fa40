"""The tutorial on clients, word for word: its server is started as it says, and each of its commands and scripts prints what it shows."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from towline.testing.server import RunningServer

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial"
PAGE = (TUTORIAL / "clients.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
# A reader's shell finds `towline` where the reader installed it; here it is beside this Python.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@dataclass(frozen=True)
class Step:
    """Something that the reader enters, and what comes out."""

    language: str
    entered: str
    shown: str


def steps() -> list[Step]:
    found = []
    blocks = BLOCK.findall(PAGE)
    for (language, text), (following, after) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language == "console":
            found += [Step("bash", *part.partition("\n")[::2]) for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
        elif language == "python":
            assert following == "text"
            found.append(Step("python", text, after))
    return found


WRITE, SERVE, *ASKED = steps()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("tutorial")
    run(WRITE, folder)
    program, verb, *files = shlex.split(SERVE.entered)
    assert (program, verb) == ("towline", "serve")
    with RunningServer(*(folder / file for file in files)) as running:
        yield running


def run(step: Step, folder: Path, server: RunningServer | None = None) -> str:
    """What it prints. The reader's ports are taken on some machines, so the server has others: nothing else of the text is changed."""
    text = step.entered
    if server is not None:
        text = text.replace("localhost:8000", f"127.0.0.1:{server.port}").replace("localhost:8001", server.grpc_address)
    command = ["bash", "-c", text] if step.language == "bash" else [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("step", ASKED, ids=[step.language for step in ASKED])
def test_each_step_prints_what_the_page_shows(server: RunningServer, step: Step, tmp_path: Path) -> None:
    assert run(step, tmp_path, server).strip() == step.shown.strip()


def test_every_protocol_has_its_steps() -> None:
    entered = "".join(step.entered for step in ASKED)
    for path in (
        "/v1/models/",
        "/v2/models/",
        "8000/predict",
        "/graphql",
        "grpc-web",
        "tritonclient.http",
        "tritonclient.grpc",
        "towline.Client",
    ):
        assert path in entered


def test_the_chinese_page_has_the_same_steps() -> None:
    assert BLOCK.findall((TUTORIAL / "clients.zh-CN.md").read_text(encoding="utf-8")) == BLOCK.findall(PAGE)
