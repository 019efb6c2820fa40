"""`towline doctor`: check this machine and the store."""

from __future__ import annotations

import click

from towline.app.doctor import Check, doctor
from towline.cli import exits
from towline.cli.output import emit, emit_json, printable, say
from towline.cli.params import home_option, json_option


@click.command("doctor")
@click.option("--deep", is_flag=True, help="Read every stored file and compare it with its digest.")
@home_option
@json_option
def command(deep: bool, home: str | None, as_json: bool) -> int:
    """Check this machine and the store. Exits 1 when something is broken. The output can be pasted into a report as it is."""
    checks = doctor(home=home, deep=deep)
    broken = [check for check in checks if check.state == "broken"]
    if as_json:
        rows = [{"name": check.name, "state": check.state, "found": check.found, "hint": check.hint} for check in checks]
        emit_json("towline.doctor/1", {"healthy": not broken, "checks": rows})
    else:
        for check in checks:
            _print(check)
        say(f"Broken: {', '.join(check.name for check in broken)}." if broken else "Nothing is broken.")
    return exits.FAILED if broken else exits.OK


def _print(check: Check) -> None:
    emit(f"{check.state:<8}{check.name:<15}{printable(check.found)}")
    if check.hint:
        emit(f"{'':<23}hint: {printable(check.hint)}")
