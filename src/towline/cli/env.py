"""`towline env create | ls | rm`: the environments of frameworks, which convert and run their models."""

from __future__ import annotations

import click

from towline.app.environments.listing import Environment, environments
from towline.cli.output import emit, emit_json, printable, say, say_next, say_step, size_words, table
from towline.cli.params import json_option


@click.group("env", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Environments of frameworks: each a Python of its own, made once, that reads, answers and converts their models."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


@command.command("create", short_help="Make an environment with pip, once.")
@click.argument("name")
@click.option("--with", "add", multiple=True, metavar="REQUIREMENT", help="A package beside, for code of your own. May be repeated.")
@click.option("--python", metavar="FILE", default="", help="The Python, 3.11 or newer, to make it with. Default: this one.")
@click.option("--again", is_flag=True, help="Make it anew even if it is ready.")
@json_option
def create(name: str, add: tuple[str, ...], python: str, again: bool, as_json: bool) -> None:
    """Make the environment NAME with pip, one of those that `towline env ls` lists. Does nothing when it is there already."""
    from towline.app.environments.make import create_environment

    made = create_environment(name, add=add, python=python, again=again, progress=say_step)
    if as_json:
        emit_json("towline.env/1", {"created": _row(made.environment), "existed": made.existed, "seconds": round(made.seconds, 3)})
        return
    one = made.environment
    how = "was there already" if made.existed else f"made in {made.seconds:.0f} s"
    emit(f"{one.name} {how}  {size_words(one.size_bytes)}  {printable(one.folder)}")
    say_next("towline env ls", "towline import SOURCE")


@command.command("ls")
@json_option
def ls(as_json: bool) -> None:
    """List the environments there are, and those that could be made."""
    found = environments()
    if as_json:
        emit_json("towline.env/1", {"environments": [_row(one) for one in found]})
        return
    rows = [(one.name, one.state, size_words(one.size_bytes) if one.size_bytes else "", one.python, one.purpose) for one in found]
    emit(table(("NAME", "STATE", "SIZE", "PYTHON", "FOR"), rows, right=("SIZE",)))
    for one in found:
        if one.state in ("out of date", "broken", "half made"):
            say(f"'{printable(one.name)}' is {one.state}. Make it anew: towline env create {printable(one.name)}")


@command.command("rm")
@click.argument("name")
@json_option
def rm(name: str, as_json: bool) -> None:
    """Remove the environment NAME. Versions that its framework runs need it to be served."""
    from towline.app.environments.make import remove_environment

    gone = remove_environment(name)
    if as_json:
        emit_json("towline.env/1", {"removed": _row(gone)})
        return
    emit(f"removed {gone.name}  {size_words(gone.size_bytes)}")
    say_next("towline env ls", f"towline env create {gone.name}")


def _row(one: Environment) -> dict[str, object]:
    return {
        "name": one.name,
        "state": one.state,
        "folder": str(one.folder),
        "python": one.python,
        "size_bytes": one.size_bytes,
        "made_s": one.made_s,
        "packages": list(one.packages),
        "added": list(one.added),
    }
