"""Open towline.db, or make it; never take a missing or damaged one for a new store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from towline.store import schema
from towline.store.database import Database
from towline.store.disk import Disk
from towline.store.errors import StoreError, not_writable
from towline.store.files import Files

# The log is cut back to this size after it was written into the database.
_LOG_BYTES = 4 << 20

Steps = Sequence[Sequence[str]]


def open_for_writing(files: Files, disk: Disk, *, steps: Steps = schema.STEPS) -> Database:
    files.make_home()
    # Asked before whether the database exists: another process may be making both, the database first.
    has_remains = _has_remains(files)
    if not files.database.exists():
        if has_remains:
            raise _database_missing()
        _create(files, disk, steps)
    if not os.access(files.home, os.W_OK):
        raise not_writable()
    connection = disk.connect(files.database.as_uri() + "?mode=rw")
    try:
        schema.format_of(connection, newest=len(steps))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        _guard(connection)
        schema.upgrade(disk, connection, files.database, steps=steps)
    except BaseException:
        connection.close()
        raise
    return Database(connection, disk, schema=len(steps))


def open_for_reading(files: Files, disk: Disk, *, steps: Steps = schema.STEPS) -> Database:
    if not files.database.exists():
        if _has_remains(files):
            raise _database_missing()
        return _empty(disk, steps)
    connection = disk.connect(f"{files.database.as_uri()}?mode=ro{_immutable(files)}")
    try:
        found = schema.format_of(connection, newest=len(steps))
        if found < len(steps):
            raise StoreError(
                f"The store has format {found}, this release reads format {len(steps)}.",
                code="STORE_TOO_OLD",
                hint="Any command that changes the store upgrades it, after a backup; 'towline serve' does too.",
            )
        _guard(connection)
    except BaseException:
        connection.close()
        raise
    return Database(connection, disk, schema=len(steps), writable=False)


def _create(files: Files, disk: Disk, steps: Steps) -> None:
    """Make the database aside and give it its name when it is whole: it is never seen half-made."""
    with files.stage() as folder:
        made = folder / files.database.name
        schema.create(disk, made, steps=steps)
        try:
            disk.link(made, files.database)
        except FileExistsError:
            # Another process was first; its database is as new as ours.
            return
        disk.sync_folder(files.home)


def _empty(disk: Disk, steps: Steps) -> Database:
    """A store that nobody has made yet, for reading."""
    connection = disk.connect("file::memory:")
    schema.fill(connection, steps)
    return Database(connection, disk, schema=len(steps), writable=False)


def _guard(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    # No function is run because the schema of a database file says so.
    connection.execute("PRAGMA trusted_schema = OFF")


def _immutable(files: Files) -> str:
    """On a disk that nobody can write, SQLite cannot keep its index of the log; without a log it needs none."""
    return "&immutable=1" if not os.access(files.home, os.W_OK) and not _log(files).exists() else ""


def _log(files: Files) -> Path:
    return files.database.with_name(files.database.name + "-wal")


def _has_remains(files: Files) -> bool:
    # A log alone counts: SQLite would play it into a new database of the same name.
    return _log(files).exists() or (files.versions.is_dir() and any(files.versions.iterdir()))


def _database_missing() -> StoreError:
    return StoreError(
        "The folder holds a store's versions or log, but no towline.db; no new one is made, because it would not know them.",
        code="DATABASE_MISSING",
        hint="Put a backup of towline.db back and run 'towline doctor', or choose an empty folder with --home.",
    )
