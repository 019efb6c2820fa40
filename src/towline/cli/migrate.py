"""`towline migrate`: take the place of another server, with its own files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from towline.cli import exits
from towline.cli.output import emit, emit_json, printable, say, say_step
from towline.cli.params import dry_run_option, home_option, json_option

if TYPE_CHECKING:
    from towline.app.migrating.outcome import Migration, ModelOutcome
    from towline.convert.migrate.plan import Plan

F = TypeVar("F", bound=Callable[..., Any])


@click.group("migrate", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Read what another server was started with; import its models, deploy them as they were, and write towline.toml and MIGRATION.md.

    The old server's own flags may follow after --, and each gets a row in MIGRATION.md.
    """
    if context.invoked_subcommand is None:
        emit(context.get_help())


def _shared(function: F) -> F:
    for option in (
        json_option,
        home_option,
        dry_run_option,
        click.option("--into", metavar="DIR", default=".", help="Where towline.toml and MIGRATION.md are written. Default: this folder."),
        click.option(
            "--volume", multiple=True, metavar="HERE:THERE", help="A folder as the old server's container had it. May be repeated."
        ),
        click.argument("flags", nargs=-1, metavar="[-- OLD FLAGS]"),
    ):
        function = option(function)
    return function


@command.command("tfserving", short_help="From TensorFlow Serving: its model configuration, or one model's folder.")
@click.option("--models", metavar="FILE", help="The list that --model_config_file named.")
@click.option("--model_base_path", "base_path", metavar="DIR", default="", help="The folder of one model's numbered versions.")
@click.option("--model_name", metavar="NAME", default="", help="That model's name. Default: default.")
@click.option("--batching", metavar="FILE", help="The file that --batching_parameters_file named.")
@click.option("--monitoring", metavar="FILE", help="The file that --monitoring_config_file named.")
@_shared
def tfserving(models: str | None, base_path: str, model_name: str, batching: str | None, monitoring: str | None, **shared: Any) -> int:
    """From TensorFlow Serving: its model configuration, or one model's folder."""
    from towline.app.migrating.plans import tfserving_plan

    return _carry_out(tfserving_plan(models, base_path, model_name, batching, monitoring, shared["flags"], shared["volume"]), shared)


@command.command("triton", short_help="From Triton: its model repository, each model with its config.pbtxt.")
@click.option("--repository", multiple=True, metavar="DIR", help="A model repository. May be repeated.")
@_shared
def triton(repository: tuple[str, ...], **shared: Any) -> int:
    """From Triton: its model repository, each model with its config.pbtxt."""
    from towline.app.migrating.plans import triton_plan

    return _carry_out(triton_plan(repository, shared["flags"], shared["volume"]), shared)


@command.command("torchserve")
@click.option("--model-store", "store", metavar="DIR", help="The folder of .mar archives.")
@click.option("--config", metavar="FILE", help="The config.properties that --ts-config named.")
@click.option("--models", multiple=True, metavar="[NAME=]FILE", help="One of its archives, or all. May be repeated. Default: all.")
@_shared
def torchserve(store: str | None, config: str | None, models: tuple[str, ...], **shared: Any) -> int:
    """From TorchServe: its model store and config.properties. Archives with a stock image classifier come over whole."""
    from towline.app.migrating.plans import torchserve_plan

    return _carry_out(torchserve_plan(store, config, models, shared["flags"], shared["volume"]), shared)


def _carry_out(plan: Plan, shared: dict[str, Any]) -> int:
    from towline.app.migrating.migrate import migrate

    dry_run = shared["dry_run"]
    done = migrate(plan, into=Path(shared["into"]), home=shared["home"], dry_run=dry_run, progress=say_step)
    if shared["as_json"]:
        emit_json("towline.migrate/1", {**done.as_json(), "dry_run": dry_run})
    else:
        _tell(done, dry_run=dry_run)
    return exits.OK if done.is_whole else exits.FAILED


def _tell(done: Migration, *, dry_run: bool) -> None:
    for model in done.models:
        for line in _lines(model):
            emit(printable(line))
    if dry_run:
        for name, value in done.plan.settings.items():
            emit(printable(f"{name} = {value}"))
        say("  Nothing was written. Without --dry-run:")
    else:
        say(f"  wrote {', '.join(printable(file) for file in done.files)}")
    if not done.is_whole:
        say("  Not all of it came over; what did is there. Put right what is named above and run this again.")
    say(f"  next  {printable(done.command)}")


def _lines(model: ModelOutcome) -> list[str]:
    name = model.model.name
    if model.model.problem:
        return [f"{name}  not imported: {model.model.problem} {model.model.hint}".rstrip()]
    lines = []
    for one in model.versions:
        source = f"{one.planned.source}" + (f" ({one.planned.inside})" if one.planned.inside else "")
        state = f"not imported: {one.error} {one.hint}".rstrip() if one.error else one.state
        lines.append(f"{name}:{one.stored or one.planned.number}  {source}  {state}")
    return lines
