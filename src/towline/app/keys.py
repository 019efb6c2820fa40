"""Make, list and revoke the keys that servers of a home ask for."""

from __future__ import annotations

import time
from pathlib import Path

from towline.app.home import actor, find_home, opened_store
from towline.core.event import Event
from towline.secure.keys import FILE_NAME, Key, change_ring, new_key, read_ring, with_key, without_key


def create_key(name: str, *, why: str = "", home: str | Path | None = None) -> str:
    """Make a key and return it: nobody can show it again. Conflict when the name is taken.

    From the first key on, every server of this home asks for one.
    """
    key, kept = new_key(name, now_s=time.time())
    change_ring(_file(home), lambda ring: with_key(ring, kept))
    _record("key.created", name, why, home)
    return key


def revoke_key(name: str, *, why: str = "", home: str | Path | None = None) -> None:
    """Forget a key; running servers refuse it within seconds. NotFound when there is none of this name."""
    change_ring(_file(home), lambda ring: without_key(ring, name))
    _record("key.revoked", name, why, home)


def keys(*, home: str | Path | None = None) -> tuple[Key, ...] | None:
    """The keys by name, without their secrets; None when servers of this home ask for none."""
    ring = read_ring(_file(home))
    return None if ring is None else ring.keys


def _file(home: str | Path | None) -> Path:
    return find_home(home) / FILE_NAME


def _record(kind: str, name: str, why: str, home: str | Path | None) -> None:
    with opened_store(home) as store:
        store.append(Event(kind, actor(), time.time(), why=why, data={"key": name}))
