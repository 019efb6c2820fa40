"""The options --html and --lang, and the file that --html writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from towline.cli.output import printable, say
from towline.core.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., object])


def page_options(command: Command) -> Command:
    """`html` and `language` for a command that writes what it found as a page."""
    command = click.option("--lang", "language", type=click.Choice(("en", "zh")), default="en", help="The language of the page.")(command)
    return click.option("--html", metavar="FILE", help="Also write what was found as one page with charts, which needs no network.")(
        command
    )


def page_place(html: str | None) -> Path | None:
    """Where the page goes; asked before minutes of measuring. An old page is replaced."""
    if html is None:
        return None
    place = Path(html)
    if not place.parent.is_dir():
        raise UsageError(f"--html {html}: there is no folder {place.parent}.", hint="Make it first.")
    if place.is_dir():
        raise UsageError(f"--html {html} is a folder.", hint="Name a file.")
    return place


def write_page(place: Path, content: str) -> None:
    try:
        place.write_text(content, encoding="utf-8")
    except OSError as error:
        said = os.strerror(error.errno or 0)
        raise UsageError(f"--html {place} cannot be written: {said}.", hint="Name a file in a folder of yours.") from None
    say(f"The page is in {printable(str(place))}")
