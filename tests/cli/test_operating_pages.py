"""The how-tos on updating and running for good are what they say: their commands run, in their order, and servers do what follows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from command_line import Run

from towline.cli.group import cli
from towline.testing import tiny_models
from towline.testing.server import RunningServer

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
SECTION = re.compile(r"^## .*$", re.MULTILINE)
ENTERED = re.compile(r"^\$ (.*)$", re.MULTILINE)


def entered(page: str, program: str) -> list[list[str]]:
    """The words of each command line of a part of a page."""
    return [words for line in ENTERED.findall(page) if (words := shlex.split(line))[0] == program]


def test_an_alias_is_moved_there_and_back_as_the_page_says(
    towline: Run, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("digits.onnx", 1), ("better.onnx", 2)):
        tiny_models.write(tmp_path, tiny_models.mlp(seed=seed), name)
    page = SECTION.split((PAGES / "update.md").read_text())[2]
    first, champion, serve, second, forward, back, history = entered(page, "towline")

    for words in (first, champion):
        assert towline(*words[1:]).code == 0
    with RunningServer(*serve[2:], home=home) as server:

        def wait_for(status: str) -> bool:
            server.wait_until(lambda: status in server.get("/v1/models/digits")[1].decode())
            return True

        assert towline(*second[1:]).code == 0
        assert wait_for('{"version":"1","state":"AVAILABLE"')
        assert towline(*forward[1:]).code == 0
        assert wait_for(re.search(r"^{.*}$", page, re.MULTILINE)[0])  # type: ignore[index]
        assert towline(*forward[1:]).code == 5
        assert towline(*back[1:]).code == 0
        assert wait_for('{"version":"1","state":"AVAILABLE"')

    assert [line.split()[3] for line in towline(*history[1:]).out.splitlines()[1:]] == ["1", "2", "1"]


@pytest.mark.parametrize("language", ["", ".zh-CN"])
def test_what_starts_a_server_for_good_is_a_command_line_of_ours(language: str) -> None:
    page = (PAGES / f"operate{language}.md").read_text()
    unit = re.search(r"^ExecStart=/opt/towline/bin/(.*)$", page, re.MULTILINE)
    image = re.search(r"^CMD \[(.*)\]$", page, re.MULTILINE)
    assert unit
    assert image

    for words in (unit[1].split(), [word.strip(' "') for word in image[1].split(",")], *entered(page, "towline")):
        assert words[0] == "towline"
        command = cli.get_command(click.Context(cli), words[1])
        assert command is not None
        command.make_context(words[1], words[2:])
