"""One small history, and every kind of change that can follow it: what the crash tests kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from store_making import HandClock, add

from towline.core.deployment import Deployment, Policy
from towline.core.event import Event
from towline.core.refs import Ref
from towline.store.disk import Disk
from towline.store.events import MAX_PER_WINDOW
from towline.store.sqlite import SqliteStore, open_store

Change = Callable[[SqliteStore], object]


def make_history(home: Path, disk: Disk | None = None) -> None:
    """a:1 and a:2, b:1 with the content of a:1, an alias, a deployment, and an event that came too often."""
    with open_store(home, clock=HandClock(), disk=disk) as store:
        add(store, "a", 1)
        add(store, "a", 2)
        add(store, "b", 1)
        store.set_alias("a", "champion", 1, actor="tester")
        store.put_deployment(Deployment("b", Policy("all")), actor="tester")
        for _ in range(MAX_PER_WINDOW):
            store.append(Event("worker.died", "server", 0.0, "b"))


CHANGES: dict[str, Change] = {
    "open": lambda store: None,
    "import": lambda store: add(store, "c", 3),
    "import of the next version": lambda store: add(store, "a", 3),
    "import of content another name has": lambda store: add(store, "b", 2),
    "import of a known version": lambda store: add(store, "a", 2),
    "removal": lambda store: store.remove(Ref("a", 2), actor="tester"),
    "removal of content another name has": lambda store: store.remove(Ref("a", 1), actor="tester"),
    "alias set": lambda store: store.set_alias("a", "latest", 2, actor="tester"),
    "alias moved": lambda store: store.set_alias("a", "champion", 2, actor="tester"),
    "alias removed": lambda store: store.set_alias("a", "champion", None, actor="tester"),
    "deployment put": lambda store: store.put_deployment(Deployment("a"), actor="tester"),
    "deployment replaced": lambda store: store.put_deployment(Deployment("b", revision=1), actor="tester"),
    "deployment removed": lambda store: store.remove_deployment("b", actor="tester"),
    "deployments changed at once": lambda store: store.change_deployments({"a": Deployment("a"), "b": None}, actor="tester"),
    "event": lambda store: store.append(Event("worker.died", "server", 0.0, "a")),
    "event that comes too often": lambda store: store.append(Event("worker.died", "server", 0.0, "b")),
}


def prepare(name: str, home: Path, disk: Disk | None = None) -> None:
    """Bring `home` to where the change begins: the history; one change needs it a little different."""
    make_history(home, disk)
    if name == "removal of content another name has":
        with open_store(home, clock=HandClock(), disk=disk) as store:
            store.set_alias("a", "champion", None, actor="tester")


def carry_out(name: str, home: Path, disk: Disk) -> None:
    with open_store(home, clock=HandClock(), disk=disk) as store:
        CHANGES[name](store)
