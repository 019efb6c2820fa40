"""`towline demo`: see it all work on a small model that comes with the package."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from towline.app.options import DemoOptions
from towline.cli.params import home_option


@click.command("demo")
@click.option("--once", is_flag=True, envvar="ONCE", help="End after the show instead of serving on. The same as ONCE=1.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="HTTP port. Default: a free one.")
@home_option
def command(once: bool, port: int | None, home: str | None) -> int | None:
    """Import and serve a small model of handwritten digits, measure it, kill its worker under load, and count failed requests."""
    options = DemoOptions(once=once, port=port, home=Path(home).absolute() if home else None)
    code: int | None = importlib.import_module("towline.app.demo.demo").demo_command(options)
    return code
