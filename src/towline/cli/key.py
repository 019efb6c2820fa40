"""`towline key`: make, list and revoke the keys that servers ask for."""

from __future__ import annotations

import click

from towline.app.keys import create_key, keys, revoke_key
from towline.cli.output import emit, emit_json, moment_words, say, say_next, table
from towline.cli.params import home_option, json_option, why_option
from towline.core.errors import UsageError


@click.command("key")
@click.argument("name", required=False)
@click.option("--revoke", is_flag=True, help="Forget the key instead; running servers refuse it within seconds.")
@why_option
@home_option
@json_option
def command(name: str | None, revoke: bool, why: str, home: str | None, as_json: bool) -> None:
    """Make a key called NAME and print it, this once. Without NAME, list the keys. From the first key on, servers ask for one."""
    if name is None:
        if revoke:
            raise UsageError("Say which key.", hint="Try: towline key NAME --revoke")
        _print_keys(home, as_json)
    elif revoke:
        revoke_key(name, why=why, home=home)
        if as_json:
            emit_json("towline.key/1", {"revoked": name})
        else:
            say(f"Key '{name}' is revoked.")
    else:
        _print_new(name, create_key(name, why=why, home=home), as_json)


def _print_new(name: str, key: str, as_json: bool) -> None:
    if as_json:
        emit_json("towline.key/1", {"name": name, "key": key})
        return
    emit(key)
    say(f"This is the key of '{name}'. It is not kept and cannot be shown again. Servers of this home ask for a key now.")
    say_next('curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/v2/models', f"towline key {name} --revoke")


def _print_keys(home: str | None, as_json: bool) -> None:
    found = keys(home=home)
    if as_json:
        emit_json("towline.key/1", {"keys": None if found is None else [{"name": one.name, "created_s": one.created_s} for one in found]})
    elif found is None:
        say("No key was ever made: servers on this machine answer without. Try 'towline key NAME'.")
    elif not found:
        say("All keys are revoked: servers let nobody in. Try 'towline key NAME'.")
    else:
        emit(table(("NAME", "MADE"), [(one.name, moment_words(one.created_s)) for one in found]))
