"""`towline config show`: the settings and where each comes from."""

from __future__ import annotations

from dataclasses import asdict

import click

from towline.app.home import find_home, find_settings
from towline.cli.output import emit, emit_json, table
from towline.cli.params import home_option, json_option


@click.group("config", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Settings: defaults < towline.toml < TOWLINE_* < flags."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


@command.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@home_option
@json_option
def show(origin: bool, home: str | None, as_json: bool) -> None:
    """Show every setting as a server started here would use it."""
    loaded = find_settings({"home": home})
    values = {**asdict(loaded.settings), "home": str(find_home(home))}
    if as_json:
        settings = {name: {"value": value, "origin": loaded.origin[name]} for name, value in values.items()}
        emit_json("towline.config/1", {"settings": settings})
        return
    rows = [(name, _toml(value), loaded.origin[name]) for name, value in values.items()]
    if origin:
        emit(table(("SETTING", "VALUE", "FROM"), rows))
    else:
        # As a towline.toml could hold them.
        for name, words, _ in rows:
            emit(f"{name} = {words}")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\x7f", "\\u007f") + '"'
    return str(value)
