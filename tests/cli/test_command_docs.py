"""Every command and option is documented in both languages, and the help tells what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from towline.cli.exits import BY_KIND
from towline.cli.group import COMMANDS, cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "reference"
# What follows the verb, up to a quote, a bracket, another command, or the flags of another program.
COMMAND_LINE = re.compile(rf"towline ({'|'.join(COMMANDS)})((?: (?!-- |[|;&])[^ `'\"\n),;]+)*)")
OPTION = re.compile(r" (--[a-z][\w-]*)")


def commands_of(verb: str) -> list[click.Command]:
    """The command, or those of its group."""
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    return list(command.commands.values()) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("language", ["", ".zh-CN"])
@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_and_all_its_options_are_documented(verb: str, language: str) -> None:
    page = (DOCS / "commands" / f"{verb}{language}.md").read_text()

    for option in [option for command in commands_of(verb) for option in command.params]:
        if isinstance(option, click.Option) and not option.hidden:
            assert f"`{max(option.opts, key=len)}`" in page
    assert f"({verb}{language}.md)" in (DOCS / "commands" / f"README{language}.md").read_text()


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_explains_itself_and_prints_data_as_json_if_it_prints_data(verb: str) -> None:
    for command in commands_of(verb):
        assert command.help
        assert all(option.help for option in command.params if isinstance(option, click.Option) and not option.hidden)
        has_json = any("--json" in option.opts for option in command.params)
        assert has_json == (verb not in ("serve", "demo"))
    assert (DOCS / "schemas" / f"towline.{verb}.1.json").exists() == has_json


@pytest.mark.parametrize("verb", COMMANDS)
def test_no_help_is_cut_short_and_no_number_is_called_by_its_type(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None

    assert "...\n" not in command.get_help(click.Context(command)).partition("\n")[2]
    for one in commands_of(verb):
        assert not {"RANGE", "INTEGER"} & set(one.get_help(click.Context(one)).split())


@pytest.mark.parametrize("language", ["", ".zh-CN"])
def test_every_exit_code_is_documented(language: str) -> None:
    page = (DOCS / "commands" / f"README{language}.md").read_text()

    for code in {0, 1, 130, 141, 143, *BY_KIND.values()}:
        assert f"\n| {code} | " in page


def test_every_command_line_that_is_printed_has_options_that_there_are() -> None:
    wrong = []
    pages = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("README*.md")]
    for page in pages:
        for verb, rest in COMMAND_LINE.findall(page.read_text(encoding="utf-8")):
            known = {word for command in commands_of(verb) for option in command.params for word in (*option.opts, *option.secondary_opts)}
            wrong += [f"{page.name}: {verb} {word}" for word in OPTION.findall(rest) if word not in {*known, "--help"}]

    assert not wrong


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in [*(DOCS / "commands").glob("*.md"), *DOCS.glob("settings*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
