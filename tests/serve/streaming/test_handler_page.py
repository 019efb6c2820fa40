"""The how-to on handlers is what it says: its files are served by its commands, and its requests get its answers."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import towline
from towline.testing.server import RunningServer

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "how-to" / "handler.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(page: str, kind: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page) if language == kind]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, and what its shell commands write."""
    folder = tmp_path_factory.mktemp("page")
    for code in blocks(PAGE, "python"):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name is not None
        (folder / name[1]).write_text(code)
    for line in commands("echo"):
        subprocess.run(line, shell=True, cwd=folder, check=True)
    return folder


def commands(program: str) -> list[str]:
    return [line[2:] for text in blocks(PAGE, "console") for line in text.splitlines() if line.startswith(f"$ {program} ")]


def curl(server: RunningServer, words: str) -> str:
    """What curl would print for these words of the page."""
    *options, url = shlex.split(words)
    options = [option for option in options if option != "-N"]
    given = dict(zip(options[::2], options[1::2], strict=True))
    headers = dict([given["-H"].split(": ", 1)]) if "-H" in given else {"Content-Type": "application/x-www-form-urlencoded"}
    return server.post(url.removeprefix("http://127.0.0.1:8000"), given["-d"].encode(), headers)[1].decode()


def test_every_request_of_the_page_gets_the_answer_of_the_page(folder: Path) -> None:
    served = [shlex.split(line)[2:] for line in commands("towline")]
    sources = [str(folder / words[0]) for words in served] + [f"{folder / 'relay.py'}:Relay"]
    flags = [flag for words in served for flag in words[1:]]

    with RunningServer(*sources, flags=tuple(str(folder / flag) if (folder / flag).exists() else flag for flag in flags)) as server:
        for text in blocks(PAGE, "console"):
            shown = text.partition("$ curl ")[2]
            asked, _, answer = shown.partition("\n")
            assert curl(server, asked).strip() == answer.strip(), asked
        assert server.post("/models/Relay/predict", b"[1]") == (200, b"[1]")


def test_the_chinese_page_has_the_same_code(folder: Path) -> None:
    chinese = (DOCS / "how-to" / "handler.zh-CN.md").read_text(encoding="utf-8")

    assert BLOCK.findall(chinese) == BLOCK.findall(PAGE)


@pytest.mark.parametrize("name", ["how-to/handler", "reference/handler"])
@pytest.mark.parametrize("language", ["", ".zh-CN"])
def test_its_links_lead_somewhere(name: str, language: str) -> None:
    page = DOCS / f"{name}{language}.md"

    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_load_runs_a_handler_in_a_process_of_its_own(folder: Path) -> None:
    model = towline.load(f"{folder / 'area.py'}:Area", home=folder / "home")

    assert model.predict([[2.0, 3.0], [4.0, 5.0]]).tolist() == [6.0, 20.0]
    assert "area" not in __import__("sys").modules
