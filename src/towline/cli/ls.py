"""`towline ls`: list versions."""

from __future__ import annotations

import click

from towline.app.listing import Listed, ls
from towline.cli.output import emit, emit_json, moment_words, printable, say, size_words, table
from towline.cli.params import NameParam, RefParam, home_option, json_option
from towline.core.refs import Ref


@click.command("ls")
@click.argument("name", type=NameParam(), required=False)
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, metavar="N", help="Versions on one page.")
@click.option("--after", type=RefParam(), metavar="NAME:N", help="Continue after this version: the next page.")
@home_option
@json_option
def command(name: str | None, limit: int, after: Ref | None, home: str | None, as_json: bool) -> None:
    """List versions of all models, or of NAME, newest first."""
    listing = ls(name or "", limit=limit, after=str(after) if after else "", home=home)
    if as_json:
        emit_json("towline.ls/1", {"versions": [_row_json(row) for row in listing.rows], "next_after": listing.next_after})
        return
    if not listing.rows:
        say("No versions. Try 'towline import FILE', or 'towline demo'.")
        return
    rows = [_row(row) for row in listing.rows]
    emit(table(("NAME", "VERSION", "ALIAS", "ENGINE", "SIZE", "DIGEST", "CREATED"), rows, right=("VERSION", "SIZE")))
    if listing.next_after:
        say(f"There are more: towline ls {printable(name + ' ') if name else ''}--after {listing.next_after}")


def _row(row: Listed) -> tuple[object, ...]:
    version = row.version
    return (
        version.name,
        version.number,
        ",".join(row.aliases) or "-",
        version.engine,
        size_words(version.size_bytes),
        version.digest[:19],
        moment_words(version.created_s),
    )


def _row_json(row: Listed) -> dict[str, object]:
    version = row.version
    return {
        "name": version.name,
        "version": version.number,
        "aliases": list(row.aliases),
        "engine": version.engine,
        "size_bytes": version.size_bytes,
        "digest": version.digest,
        "created_s": version.created_s,
    }
