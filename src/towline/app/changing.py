"""Change what the store knows: `remove` versions and `set_alias`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from towline.app.home import actor
from towline.app.listing import existing_store
from towline.app.running import GONE, ps
from towline.core.deployment import Deployment
from towline.core.errors import Conflict, NotFound, UsageError
from towline.core.refs import Ref, check_alias, parse_ref
from towline.core.store import Store
from towline.core.version import Version


@dataclass(frozen=True)
class Removal:
    """What `remove` removed, or would: versions, and the deployment that went with all of them."""

    versions: tuple[Version, ...]
    deployment: Deployment | None


@dataclass(frozen=True)
class AliasChange:
    """What `set_alias` did. A number is None where the alias did not exist, or no longer does."""

    name: str
    alias: str
    before: int | None
    after: int | None


def remove(ref: str | Ref, *, all_versions: bool = False, why: str = "", dry_run: bool = False, home: str | Path | None = None) -> Removal:
    """Forget a version, or with `all_versions` every version of a name and its deployment; returns what went (or would go).

    A bare name is refused without `all_versions`, so that nobody loses a version by leaving out its number.
    Conflict while an alias, a deployment or a running server needs one of them; then nothing is removed.
    """
    asked = parse_ref(ref) if isinstance(ref, str) else ref
    is_bare = not (asked.number or asked.alias or asked.digest)
    if is_bare and not all_versions:
        raise UsageError(
            f"'{asked}' names a model, not a version.", hint=f"Say which: {asked}:1, or give --all for every version of {asked}."
        )
    if all_versions and not is_bare:
        raise UsageError(f"--all goes with a name alone, got '{asked}'.", hint=f"Try: towline rm {asked.name or 'NAME'} --all")
    with existing_store(home, asked, read_only=dry_run) as store:
        doomed = _all_of(store, asked.name) if is_bare else (store.version(asked),)
        deployed = next((one for one in store.deployments() if one.name == doomed[0].name), None)
        for version in doomed:
            _refuse_needed(store, version, None if is_bare else deployed)
            _refuse_served(version, home)
        goes = deployed if is_bare else None
        if not dry_run:
            if goes is not None:
                store.remove_deployment(goes.name, actor=actor(), why=why)
            for version in doomed:
                store.remove(Ref(version.name, number=version.number), actor=actor(), why=why)
    return Removal(doomed, goes)


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


def _all_of(store: Store, name: str) -> tuple[Version, ...]:
    numbers = store.numbers(name)
    if not numbers:
        raise NotFound(f"There is no model named '{name}'.", hint="'towline ls' shows the models there are.")
    return tuple(store.version(Ref(name, number=number)) for number in numbers)


def _refuse_needed(store: Store, version: Version, deployed: Deployment | None) -> None:
    """The store refuses too; asked here first so that --dry-run says it, and `--all` removes all or nothing."""
    from towline.store.deployments import needed_by

    name, aliases = version.name, store.aliases(version.name).get(version.name, {})
    needed = needed_by(name, version.number, store.numbers(name), aliases, deployed)
    if not needed:
        return
    pointing = next((alias for alias, number in sorted(aliases.items()) if number == version.number), None)
    if pointing is not None:
        hint = f"Move it (towline alias {name}:N {pointing}), or remove it (towline alias {version} {pointing} --remove)."
    else:
        hint = f"Serve another version (towline serve {name}:N), or remove the model with its deployment (towline rm {name} --all)."
    raise Conflict(f"{version} cannot be removed: {needed}.", code="VERSION_NEEDED", hint=hint)


def _refuse_served(version: Version, home: str | Path | None) -> None:
    for server in ps(home=home):
        if any((model.name, model.version) == (version.name, version.number) and model.state not in GONE for model in server.models):
            raise Conflict(
                f"{version} cannot be removed: the server {server.url} (pid {server.pid}) serves it.",
                code="VERSION_NEEDED",
                hint=f"Stop it first: kill {server.pid}",
            )
