"""`towline alias`: point a name such as champion at a version, or list such names."""

from __future__ import annotations

import click

from towline.app.changing import AliasChange, set_alias
from towline.app.listing import alias_history, aliases
from towline.cli.output import emit, emit_json, moment_words, say, say_next, table
from towline.cli.params import AliasParam, RefParam, dry_run_option, home_option, json_option, why_option
from towline.core.errors import UsageError
from towline.core.refs import Ref


@click.command("alias")
@click.argument("ref", type=RefParam(), required=False)
@click.argument("alias", type=AliasParam(), required=False)
@click.option("--remove", is_flag=True, help="Remove the alias instead.")
@click.option("--expected", type=click.IntRange(1), metavar="N", help="Only if the alias points at version N now.")
@click.option("--history", is_flag=True, help="List every move of a model's aliases.")
@why_option
@dry_run_option
@home_option
@json_option
def command(
    ref: Ref | None,
    alias: str | None,
    remove: bool,
    expected: int | None,
    history: bool,
    why: str,
    dry_run: bool,
    home: str | None,
    as_json: bool,
) -> None:
    """Point ALIAS at the version REF, atomically: towline alias digits:3 champion. Without ALIAS, list aliases."""
    if ref is not None and alias is not None:
        if history:
            raise UsageError("--history lists a model's aliases, so it takes no alias.", hint=f"Try: towline alias {ref.name} --history")
        change = set_alias(ref, alias, remove=remove, expected=expected, why=why, dry_run=dry_run, home=home)
        _print_change(change, dry_run, as_json)
        return
    if remove or expected is not None or dry_run:
        raise UsageError("Say which alias.", hint="Try: towline alias digits:3 champion")
    if history:
        _print_history(ref, home, as_json)
    else:
        _print_aliases(ref.name if ref else "", home, as_json)


def _print_change(change: AliasChange, dry_run: bool, as_json: bool) -> None:
    if as_json:
        content = {"name": change.name, "alias": change.alias, "before": change.before, "after": change.after, "dry_run": dry_run}
        emit_json("towline.alias/1", {"change": content})
        return
    was = f" (was {change.before})" if change.before is not None else ""
    would = "would become " if dry_run else ""
    emit(f"{change.name}@{change.alias} -> {would}{change.after if change.after is not None else 'nothing'}{was}")
    if dry_run:
        say("Nothing was changed (--dry-run).")
    elif change.before is None:
        say_next(f"towline alias {change.name} --history", f"towline serve {change.name}@{change.alias}")
    else:
        say_next(f"towline alias {change.name} --history", f"towline alias {change.name}:{change.before} {change.alias}   (back)")


def _print_aliases(name: str, home: str | None, as_json: bool) -> None:
    found = aliases(name, home=home)
    if as_json:
        emit_json("towline.alias/1", {"aliases": [{"name": row.name, "alias": row.alias, "version": row.number} for row in found]})
    elif not found:
        say("No aliases. Try 'towline alias digits:1 champion'.")
    else:
        emit(table(("NAME", "ALIAS", "VERSION"), [(row.name, row.alias, row.number) for row in found], right=("VERSION",)))


def _print_history(ref: Ref | None, home: str | None, as_json: bool) -> None:
    if ref is None or not ref.name:
        raise UsageError("--history needs the name of a model.", hint="Try: towline alias digits --history")
    moves = alias_history(ref.name, home=home)
    if as_json:
        rows = [{"alias": move.alias, "version": move.number, "actor": move.actor, "why": move.why, "at_s": move.at_s} for move in moves]
        emit_json("towline.alias/1", {"name": ref.name, "history": rows})
    elif not moves:
        say(f"No alias of {ref.name} was ever moved.")
    else:
        cells = [(moment_words(move.at_s), move.alias, move.number or "removed", move.actor, move.why or "-") for move in moves]
        emit(table(("WHEN", "ALIAS", "VERSION", "BY", "WHY"), cells, right=("VERSION",)))
