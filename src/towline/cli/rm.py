"""`towline rm`: remove versions."""

from __future__ import annotations

import sys

import click

from towline.app.changing import Removal, remove
from towline.cli import exits
from towline.cli.output import emit, emit_json, say, say_next, size_words
from towline.cli.params import RefParam, dry_run_option, home_option, json_option, why_option, yes_option
from towline.core.errors import UsageError
from towline.core.refs import Ref


@click.command("rm")
@click.argument("ref", type=RefParam())
@click.option("--all", "all_versions", is_flag=True, help="Every version of the name, and its deployment.")
@why_option
@dry_run_option
@yes_option
@home_option
@json_option
def command(ref: Ref, all_versions: bool, why: str, dry_run: bool, yes: bool, home: str | None, as_json: bool) -> int:
    """Remove the version REF for good. Refused while an alias, a deployment or a running server needs it."""
    removal = remove(ref, all_versions=all_versions, dry_run=True, home=home)
    if not dry_run:
        if not _is_confirmed(removal, yes):
            say("Nothing was removed.")
            return exits.FAILED
        removal = remove(ref, all_versions=all_versions, why=why, home=home)
    if as_json:
        removed = [{"name": version.name, "version": version.number, "digest": version.digest} for version in removal.versions]
        deployment = removal.deployment.name if removal.deployment else None
        emit_json("towline.rm/1", {"removed": removed, "deployment": deployment, "dry_run": dry_run})
        return exits.OK
    verb = "would remove" if dry_run else "removed"
    for version in removal.versions:
        emit(f"{verb} {version}  {version.digest[:19]}  {size_words(version.size_bytes)}")
    if removal.deployment:
        emit(f"{verb} the deployment {removal.deployment.name} ({removal.deployment.policy})")
    if dry_run:
        say("Nothing was changed (--dry-run).")
    else:
        say_next(f"towline events {removal.versions[0].name}", "towline ls")
    return exits.OK


def _is_confirmed(removal: Removal, yes: bool) -> bool:
    """Ask where there is someone to answer; elsewhere --yes must have been given."""
    if yes:
        return True
    doomed = removal.versions
    what = ", ".join(str(version) for version in doomed[:5]) + (f" and {len(doomed) - 5} more" if len(doomed) > 5 else "")
    if removal.deployment:
        what += " and the deployment"
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise UsageError(
            f"Removing {what} needs --yes where there is no terminal to ask on.", hint="Add --yes, or --dry-run to look first."
        )
    return click.confirm(f"Remove {what} for good?", err=True)
