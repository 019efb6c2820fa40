"""One SQLite connection, used by any thread of one process: a write is whole or was never there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

from towline.core.errors import Conflict
from towline.store.disk import Disk
from towline.store.errors import StoreError, busy, named_faults, uncertain

Row = sqlite3.Row

_MAX_INTEGER = 2**63 - 1


class Database:
    """`read` and `write` are the only doors; statements run between them."""

    def __init__(self, connection: sqlite3.Connection, disk: Disk, *, schema: int, writable: bool = True) -> None:
        connection.row_factory = sqlite3.Row
        self._connection = connection
        self._wait_s = disk.busy_timeout_s
        self._schema = schema
        self._writable = writable
        # SQLite must not be used across a fork: its locks belong to the process.
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._is_closed = False

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """All statements inside see the same state."""
        with self._mine(), named_faults():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._leave()

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """Hold the store's only write lock; at exit everything inside is on disk, or after an exception nothing is.

        The lock also orders what is done to the folders: who holds it is alone with `versions/`.
        """
        self.check_writable()
        with self._mine(), named_faults():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._refuse_other_schema()
                yield
                self._commit()
            except sqlite3.Error as error:
                self._leave()
                if _is_full(error):
                    self._make_room_in_log()
                raise
            finally:
                self._leave()

    def execute(self, sql: str, *values: Any) -> None:
        self._connection.execute(sql, _storable(values))

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._connection.execute(sql, _storable(values)).fetchall()

    def row(self, sql: str, *values: Any) -> Row | None:
        found: Row | None = self._connection.execute(sql, _storable(values)).fetchone()
        return found

    def check_writable(self) -> None:
        if not self._writable:
            raise StoreError("The store was opened for reading only.", code="READ_ONLY", hint="Open it with read_only=False.")

    def leave_mark(self) -> None:
        """Give the transaction something to write: SQLite writes no page for a value that stays the same."""
        self._connection.execute("UPDATE marks SET count = count + 1")

    def change_token(self) -> int:
        """data_version counts the commits of other connections, total_changes what this one changed."""
        with self._mine(), named_faults():
            (others,) = self._connection.execute("PRAGMA data_version").fetchone()
            return (int(others) << 40) + self._connection.total_changes

    def close(self) -> None:
        if not self._is_closed and self._process == os.getpid():
            self._is_closed = True
            with named_faults():
                self._connection.close()

    @contextlib.contextmanager
    def _mine(self) -> Iterator[None]:
        if self._is_closed:
            raise StoreError("The store is closed.", hint="Open it again with open_store().")
        if self._process != os.getpid():
            raise StoreError("The store was opened before this process was forked.", hint="Open it again in the child.")
        if not self._lock.acquire(timeout=self._wait_s):
            raise busy()
        try:
            yield
        finally:
            self._lock.release()

    def _commit(self) -> None:
        """COMMIT; when the disk refuses it, make sure that it does not come true later."""
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._leave()
            self._overwrite_refused_commit()
            raise

    def _overwrite_refused_commit(self) -> None:
        # When only the fsync failed, the commit lies complete in the log, and whoever opens the store after this process would
        # take it for done. The next commit is written over the same place.
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self.leave_mark()
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            # No room for even one page at that place: then nothing lies there.
            if not _is_full(error):
                raise uncertain() from error
        finally:
            self._leave()

    def _make_room_in_log(self) -> None:
        # The log grows until it is written into the database; after that the next commit begins at its start, in space that is
        # ours already. So a full disk can still take back what was begun.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _leave(self) -> None:
        # After a failed COMMIT SQLite has sometimes rolled back already, sometimes not.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _refuse_other_schema(self) -> None:
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found != self._schema:
            raise Conflict(
                f"The store was upgraded to format {found} by another release while this process ran; it writes format {self._schema}.",
                code="STORE_UPGRADED",
                hint="Restart this process with the newer release.",
            )


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", -1) & 0xFF == sqlite3.SQLITE_FULL


def plain_text(text: str) -> str:
    """The text as SQLite can hold it: a byte of a path that was no Unicode becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _storable(values: tuple[Any, ...]) -> list[Any]:
    return [_one_storable(value) for value in values]


def _one_storable(value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    # A number from outside may be larger than SQLite's; none of ours is, so the largest finds as little.
    return max(-_MAX_INTEGER, min(value, _MAX_INTEGER)) if isinstance(value, int) else value
