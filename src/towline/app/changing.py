"""Change what the store knows: `remove` versions and `set_alias`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from towline.app.home import actor
from towline.app.listing import existing_store
from towline.app.running import GONE, ps
from towline.core.errors import Conflict, NotFound, UsageError
from towline.core.refs import Ref, check_alias, parse_ref
from towline.core.version import Version


@dataclass(frozen=True)
class AliasChange:
    """What `set_alias` did. A number is None where the alias did not exist, or no longer does."""

    name: str
    alias: str
    before: int | None
    after: int | None


def remove(
    ref: str | Ref, *, all_versions: bool = False, why: str = "", dry_run: bool = False, home: str | Path | None = None
) -> tuple[Version, ...]:
    """Forget a version, or with `all_versions` every version of a name; returns what went (or would go).

    A bare name is refused without `all_versions`, so that nobody loses a version by leaving out its number.
    Conflict while an alias, a deployment or a running server needs one of them; then nothing is removed by us.
    """
    asked = parse_ref(ref) if isinstance(ref, str) else ref
    is_bare = not (asked.number or asked.alias or asked.digest)
    if is_bare and not all_versions:
        raise UsageError(
            f"'{asked}' names a model, not a version.", hint=f"Say which: {asked}:1, or give --all for every version of {asked}."
        )
    if all_versions and not is_bare:
        raise UsageError(f"--all goes with a name alone, got '{asked}'.", hint=f"Try: towline rm {asked.name or 'NAME'} --all")
    with existing_store(home, asked, read_only=False) as store:
        if is_bare:
            numbers = store.numbers(asked.name)
            if not numbers:
                raise NotFound(f"There is no model named '{asked}'.", hint="'towline ls' shows the models there are.")
            doomed = [store.version(Ref(asked.name, number=number)) for number in numbers]
        else:
            doomed = [store.version(asked)]
        for version in doomed:
            _refuse_needed(version, store.aliases(version.name).get(version.name, {}), home)
        if not dry_run:
            for version in doomed:
                store.remove(Ref(version.name, number=version.number), actor=actor(), why=why)
    return tuple(doomed)


def set_alias(
    ref: str | Ref,
    alias: str,
    *,
    remove: bool = False,
    expected: int | None = None,
    why: str = "",
    dry_run: bool = False,
    home: str | Path | None = None,
) -> AliasChange:
    """Point `alias` of a model at the version `ref` names (a bare name: its latest), or remove it.

    With `expected`, only if the alias points at that number now; else Conflict.
    """
    asked = parse_ref(ref) if isinstance(ref, str) else ref
    check_alias(alias)
    with existing_store(home, asked, read_only=False) as store:
        version = store.version(asked)
        before = store.aliases(version.name).get(version.name, {}).get(alias)
        after = None if remove else version.number
        if remove and before is None:
            raise NotFound(f"{version.name} has no alias '{alias}'.", hint=f"'towline alias {version.name}' shows those it has.")
        if not dry_run:
            store.set_alias(version.name, alias, after, actor=actor(), why=why, expected=expected)
    return AliasChange(version.name, alias, before, after)


def _refuse_needed(version: Version, aliases: dict[str, int], home: str | Path | None) -> None:
    """The store refuses too; asked here first so that --dry-run says it and `--all` removes all or nothing."""
    pointing = [alias for alias, number in aliases.items() if number == version.number]
    if pointing:
        name, alias = version.name, pointing[0]
        raise Conflict(
            f"{version} cannot be removed: the alias '{alias}' points at it.",
            hint=f"Move it (towline alias {name}:N {alias}), or remove it (towline alias {version} {alias} --remove).",
        )
    for server in ps(home=home):
        if any((model.name, model.version) == (version.name, version.number) and model.state not in GONE for model in server.models):
            raise Conflict(f"{version} cannot be removed: the server {server.url} (pid {server.pid}) serves it.", hint="Stop it first.")
