"""Read the store for people and programs: `ls`, `show`, `aliases` and `events`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from towline.app.home import find_home, opened_store
from towline.core.errors import NotFound
from towline.core.event import Event
from towline.core.refs import Ref, parse_ref
from towline.core.store import AliasMove, Store
from towline.core.version import Version

if TYPE_CHECKING:
    from towline.core.manifest import Manifest

DATABASE = "towline.db"


@dataclass(frozen=True)
class Listed:
    """One line of `ls`."""

    version: Version
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """One page of `ls`. `next_after` is the ref to give as `after` for the next page, empty when this is the last."""

    rows: tuple[Listed, ...]
    next_after: str = ""


@dataclass(frozen=True)
class Shown:
    """All that is known of one version."""

    version: Version
    manifest: Manifest
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class AliasRow:
    """Where one alias points."""

    name: str
    alias: str
    number: int


def ls(name: str = "", *, limit: int = 100, after: str = "", home: str | Path | None = None) -> Listing:
    """Versions by name, newest number first, of one model or of all. NotFound when `name` is given and has none."""
    if not has_store(home):
        _require(name == "", name)
        return Listing(())
    last = parse_ref(after) if after else None
    with opened_store(home, read_only=True) as store:
        # One more than a page, to know whether there is a next one.
        found = store.versions(name, limit=limit + 1, before=(last.name, last.number or 0) if last else None)
        _require(bool(found) or not name or bool(after), name)
        aliases = store.aliases(name)
    page = found[:limit]
    rows = tuple(Listed(version, _pointing_at(version, aliases)) for version in page)
    return Listing(rows, str(page[-1]) if len(found) > limit else "")


def show(ref: str | Ref, *, home: str | Path | None = None) -> Shown:
    """A version with its manifest and the aliases that point at it."""
    asked = parse_ref(ref) if isinstance(ref, str) else ref
    with existing_store(home, asked) as store:
        version = store.version(asked)
        return Shown(version, version.manifest, _pointing_at(version, store.aliases(version.name)))


def aliases(name: str = "", *, home: str | Path | None = None) -> tuple[AliasRow, ...]:
    """Every alias of one model or of all, by name."""
    if not has_store(home):
        return ()
    with opened_store(home, read_only=True) as store:
        found = store.aliases(name)
    return tuple(AliasRow(model, alias, number) for model in sorted(found) for alias, number in sorted(found[model].items()))


def alias_history(name: str, *, home: str | Path | None = None) -> tuple[AliasMove, ...]:
    """Every move of every alias of `name`, in the store's order."""
    if not has_store(home):
        return ()
    with opened_store(home, read_only=True) as store:
        return tuple(store.alias_history(name))


def events(*, name: str = "", kind: str = "", after: int = 0, limit: int = 100, home: str | Path | None = None) -> tuple[Event, ...]:
    """What happened, newest last."""
    if not has_store(home):
        return ()
    with opened_store(home, read_only=True) as store:
        return tuple(store.events(name=name, kind=kind, after=after, limit=limit))


def verify_events(*, home: str | Path | None = None) -> tuple[str, ...]:
    """One sentence for each break in the chain of events; none when it is whole."""
    if not has_store(home):
        return ()
    with opened_store(home, read_only=True) as store:
        return tuple(store.verify_events())


def has_store(home: str | Path | None) -> bool:
    """Whether anything was ever stored. Asked before reading, so that looking never makes a store."""
    return (find_home(home) / DATABASE).exists()


def existing_store(home: str | Path | None, ref: Ref, *, read_only: bool = True) -> AbstractContextManager[Store]:
    """The store, when there is one; else `ref` is not to be found. A version's lookup never makes a store."""
    if not has_store(home):
        raise NotFound(f"There is no {ref}: nothing was imported yet.", hint="Try 'towline import FILE', or --home for another store.")
    return opened_store(home, read_only=read_only)


def _pointing_at(version: Version, aliases: dict[str, dict[str, int]]) -> tuple[str, ...]:
    return tuple(sorted(alias for alias, number in aliases.get(version.name, {}).items() if number == version.number))


def _require(found: bool, name: str) -> None:
    if not found:
        raise NotFound(f"There is no model named '{name}'.", hint="'towline ls' shows the models there are.")
