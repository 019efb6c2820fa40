"""Folders that changes in progress may leave behind: written down before, settled by whoever opens the store next.

A publish moves a folder into versions/ and then adds a row; a removal deletes a row and then moves the folder away. Between the
two a folder stands there without a row. So `begin` is committed first, and only folders named there are ever cleared: a folder
that the store knows nothing of (a backup of towline.db was put back) is somebody's work, and `towline doctor` reports it.
"""

from __future__ import annotations

from pathlib import Path

from towline.store import versions
from towline.store.database import Database
from towline.store.files import Files


def begin(db: Database, digest: str, *, staging: str) -> None:
    """Note, in the caller's transaction, that the folder of `digest` may soon have no row.

    `staging` names the folder it comes from, which exists until then; empty when the row has just been deleted.
    """
    db.execute("INSERT OR IGNORE INTO unfinished (digest, staging) VALUES (?, ?)", digest, staging)


def settle(db: Database, digest: str, *, staging: str) -> None:
    """Take the note back, in the transaction that gives the folder its row."""
    db.execute("DELETE FROM unfinished WHERE digest = ? AND staging = ?", digest, staging)


def finish(db: Database, files: Files) -> None:
    """Settle every note whose owner is gone or gave up: a folder that still has no row is removed. Doing it twice equals once."""
    with db.read():
        if db.row("SELECT 1 FROM unfinished LIMIT 1") is None:
            return
    # Another process may have died just after its commit was refused by the disk. That commit lies in the log until the next one
    # is written over it; only then is it certain that a folder without a row stays without one.
    with db.write():
        db.leave_mark()
        notes = db.rows("SELECT digest, staging FROM unfinished")
    for note in notes:
        files.remove(_settle_if_ownerless(db, files, note["digest"], note["staging"]))


def _settle_if_ownerless(db: Database, files: Files, digest: str, staging: str) -> Path | None:
    removed = None
    with db.write():
        # Its staged folder is still there: its owner has not come to the rename yet.
        if staging and (files.staging / staging).exists():
            return None
        if not versions.is_held(db, digest):
            removed = files.displace(digest)
        settle(db, digest, staging=staging)
    return removed
