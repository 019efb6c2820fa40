"""The tables of towline.db: made at once and aside, upgraded in one transaction after a backup, never downgraded."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from towline.core.event import GENESIS
from towline.store.disk import Disk
from towline.store.errors import StoreError, damaged

# "Towl" in ASCII: tells our file from any other SQLite file, and from one that was emptied.
APPLICATION_ID = 0x546F776C

_FIRST = (
    "CREATE TABLE models (folded TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, last_number INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE versions (
        name TEXT NOT NULL REFERENCES models (name),
        number INTEGER NOT NULL,
        digest TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        created_s REAL NOT NULL,
        engine TEXT NOT NULL,
        source_digest TEXT NOT NULL,
        PRIMARY KEY (name, number DESC),
        UNIQUE (name, digest)
    ) WITHOUT ROWID""",
    "CREATE INDEX versions_by_digest ON versions (digest)",
    "CREATE INDEX versions_by_source ON versions (name, source_digest, number)",
    """CREATE TABLE aliases (
        name TEXT NOT NULL,
        alias TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (name, alias),
        FOREIGN KEY (name, number) REFERENCES versions (name, number)
    ) WITHOUT ROWID""",
    "CREATE INDEX aliases_by_version ON aliases (name, number)",
    """CREATE TABLE alias_moves (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        alias TEXT NOT NULL,
        number INTEGER,
        actor TEXT NOT NULL,
        why TEXT NOT NULL,
        at_s REAL NOT NULL
    )""",
    "CREATE INDEX alias_moves_by_name ON alias_moves (name, id)",
    "CREATE TABLE deployments (folded TEXT PRIMARY KEY, name TEXT NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        actor TEXT NOT NULL,
        at_s REAL NOT NULL,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        why TEXT NOT NULL,
        data TEXT NOT NULL,
        previous TEXT NOT NULL,
        hash TEXT NOT NULL
    )""",
    "CREATE INDEX events_by_name ON events (name, number)",
    "CREATE INDEX events_by_kind ON events (kind, number)",
    # The end of the chain, so that removing its newest events is seen.
    "CREATE TABLE chain (only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL, hash TEXT NOT NULL)",
    f"INSERT INTO chain VALUES (1, 0, '{GENESIS}')",  # noqa: S608 - a constant of ours
    """CREATE TABLE event_rates (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        accepted TEXT NOT NULL,
        last_s REAL NOT NULL,
        suppressed INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID""",
    # Folders that may stand in versions/ without a row, because a publish or a removal has begun. See recovery.py.
    """CREATE TABLE unfinished (
        digest TEXT NOT NULL,
        staging TEXT NOT NULL,
        PRIMARY KEY (digest, staging)
    ) WITHOUT ROWID""",
    # A number to change when a commit is made only to be written: see Database._overwrite_refused_commit.
    "CREATE TABLE marks (only INTEGER PRIMARY KEY CHECK (only = 1), count INTEGER NOT NULL)",
    "INSERT INTO marks VALUES (1, 0)",
)

# One tuple of statements per format. A released one is never edited: the next change is a new one at the end.
STEPS: tuple[tuple[str, ...], ...] = (_FIRST,)


def create(disk: Disk, path: Path, *, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Make a whole, synced database at `path`, which nobody else knows yet. The caller gives it its real name."""
    connection = disk.connect(path.as_uri() + "?mode=rwc")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        fill(connection, steps)
    finally:
        # The last connection to close writes the log back into the file and removes it: one file holds everything.
        connection.close()
    disk.settle_file(path, 0o600)


def fill(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Give an empty database all its tables."""
    connection.execute("BEGIN IMMEDIATE")
    _run(connection, steps, done=0)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def format_of(connection: sqlite3.Connection, *, newest: int) -> int:
    """The format of an existing database. Raises StoreError when it is not ours, or newer than `newest`."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or found == 0:
        raise damaged("it is empty, or no database of Towline's")
    if found > newest:
        raise StoreError(
            f"The store has format {found}; this release reads formats up to {newest} and does not downgrade.",
            code="STORE_TOO_NEW",
            hint=f"Use the release that wrote it, or put back the backup it made then: towline.db.format-{newest}.backup.",
        )
    return int(found)


def upgrade(disk: Disk, connection: sqlite3.Connection, path: Path, *, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Bring the database at `path` to the newest format. Killed at any point, it has the old format or the new one."""
    if format_of(connection, newest=len(steps)) == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have upgraded while this one waited for the lock.
        found = format_of(connection, newest=len(steps))
        if found < len(steps):
            _back_up(disk, path, path.with_name(f"{path.name}.format-{found}.backup"))
            _run(connection, steps, done=found)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _run(connection: sqlite3.Connection, steps: Sequence[Sequence[str]], *, done: int) -> None:
    for step in steps[done:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(steps)}")


def _back_up(disk: Disk, path: Path, target: Path) -> None:
    """Copy the committed state, whole and synced before it gets its name."""
    partial = target.with_name(target.name + ".partial")
    disk.remove_file(partial)
    # A connection of its own: it reads what is committed, while the caller's holds the write lock.
    source = disk.connect(path.as_uri() + "?mode=ro")
    copy = disk.connect(partial.as_uri() + "?mode=rwc")
    try:
        source.backup(copy)
        # Without this the copy could need a log beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
    finally:
        copy.close()
        source.close()
    disk.settle_file(partial, 0o600)
    disk.rename(partial, target)
    disk.sync_folder(target.parent)
