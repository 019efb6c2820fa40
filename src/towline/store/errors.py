"""Give SQLite's and the disk's failures a name, a reason and a next step. Pure."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from towline.core.errors import Conflict, Kind, TowlineError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class StoreError(TowlineError):
    """The store itself failed, not the request: its disk, its permissions or its database."""

    kind = Kind.UNAVAILABLE
    code = "STORE_UNUSABLE"


@contextmanager
def named_faults() -> Iterator[None]:
    """Let every failure of SQLite or the disk inside leave as a Conflict or a StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise from_sqlite(error) from error
    except OSError as error:
        raise from_os(error) from error


def from_sqlite(error: sqlite3.Error) -> Exception:
    """The error to raise instead. What is no fault of the outside (a bug in our SQL) comes back as it is."""
    # The low byte is the family; the rest says where in SQLite it happened.
    match getattr(error, "sqlite_errorcode", -1) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return busy()
        case sqlite3.SQLITE_FULL:
            return disk_full()
        case sqlite3.SQLITE_READONLY:
            return not_writable()
        case sqlite3.SQLITE_IOERR:
            return io_failed(str(error))
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(str(error))
        case sqlite3.SQLITE_CANTOPEN:
            return StoreError(
                "The store's towline.db cannot be opened.",
                code="STORE_CANNOT_OPEN",
                hint="Check that its folder exists, is yours and is on a local disk; 'towline doctor' shows where it is.",
            )
    return error


def from_os(error: OSError) -> StoreError:
    if error.errno in _FULL:
        return disk_full()
    if error.errno in _NOT_WRITABLE:
        return not_writable()
    return io_failed(error.strerror or type(error).__name__)


def busy() -> Conflict:
    return Conflict(
        "Another process is changing the store and has not finished in time; nothing was changed.",
        code="STORE_BUSY",
        hint="Try again in a moment.",
    )


def disk_full() -> StoreError:
    # OUT_OF_MEMORY is what protocols answer with 507, Insufficient Storage.
    return StoreError(
        "The disk under the store is full; nothing was changed.",
        code="DISK_FULL",
        kind=Kind.OUT_OF_MEMORY,
        hint="Free some space, for example with 'towline rm' of versions nobody needs, and try again.",
    )


def not_writable() -> StoreError:
    return StoreError(
        "The store cannot be written: its disk is read-only or its folder is not this user's; nothing was changed.",
        code="READ_ONLY",
        hint="Choose another folder with --home or TOWLINE_HOME, or run as the user who owns it.",
    )


def io_failed(reason: str) -> StoreError:
    return StoreError(
        f"The disk under the store failed: {reason}; nothing was changed.",
        code="STORE_IO",
        hint="See the system's log for the disk; 'towline doctor' checks what the store still holds.",
    )


def uncertain() -> StoreError:
    return StoreError(
        "The disk under the store failed while a change was written; whether it was made shows when the store is opened again.",
        code="STORE_IO",
        hint="See the system's log for the disk, then look with 'towline ls' and 'towline events'.",
    )


def damaged(reason: str) -> StoreError:
    return StoreError(
        f"The store's towline.db is damaged: {reason}. It is left as it is, nothing was recreated.",
        code="STORE_DAMAGED",
        hint="Put a backup in its place (and remove towline.db-wal), then run 'towline doctor'. The files of the versions are untouched.",
    )
