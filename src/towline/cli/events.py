"""`towline events`: what happened to versions, and who did it."""

from __future__ import annotations

import json

import click

from towline.app.listing import events, verify_events
from towline.cli import exits
from towline.cli.output import emit, emit_json, moment_words, say, say_error, table
from towline.cli.params import NameParam, home_option, json_option
from towline.core.event import Event


@click.command("events")
@click.argument("name", type=NameParam(), required=False)
@click.option("--kind", default="", metavar="KIND", help="Only this kind, such as version.imported.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="Only events after number N; 0 gives the newest.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, metavar="N", help="Events to print at most.")
@click.option("--verify", is_flag=True, help="Check the chain of hashes over all events instead; exits 1 when it is broken.")
@home_option
@json_option
def command(name: str | None, kind: str, after: int, limit: int, verify: bool, home: str | None, as_json: bool) -> int:
    """List what happened, newest last; of one model or of all."""
    if verify:
        return _verify(home, as_json)
    found = events(name=name or "", kind=kind, after=after, limit=limit, home=home)
    if as_json:
        emit_json("towline.events/1", {"events": [_event_json(event) for event in found]})
    elif not found:
        say("No events.")
    else:
        emit(table(("N", "WHEN", "WHAT", "MODEL", "BY", "WHY", "DATA"), [_row(event) for event in found], right=("N",)))
    return exits.OK


def _verify(home: str | None, as_json: bool) -> int:
    breaks = verify_events(home=home)
    if as_json:
        emit_json("towline.events/1", {"chain_is_whole": not breaks, "breaks": list(breaks)})
    elif not breaks:
        emit("The chain of events is whole.")
    else:
        for sentence in breaks:
            say_error(sentence)
    return exits.FAILED if breaks else exits.OK


def _row(event: Event) -> tuple[object, ...]:
    content = json.dumps(event.data, ensure_ascii=False, separators=(",", ":")) if event.data else "-"
    # A row stays a row: the whole of a long event is in --json.
    short = content if len(content) <= 80 else content[:79] + "…"
    return event.number, moment_words(event.at_s), event.kind, event.name or "-", event.actor, event.why or "-", short


def _event_json(event: Event) -> dict[str, object]:
    return {
        "number": event.number,
        "kind": event.kind,
        "actor": event.actor,
        "at_s": event.at_s,
        "name": event.name,
        "digest": event.digest,
        "why": event.why,
        "data": event.data,
        "hash": event.hash,
    }
