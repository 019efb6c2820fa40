"""Every effect the store has on its folder, one method each: the seam where tests cut the power."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path


class Disk:
    """The real disk. Nothing else in this room writes, syncs, renames, locks or connects."""

    # How long one process waits for another's change before it says Conflict.
    busy_timeout_s = 5.0
    connection_class = sqlite3.Connection

    def make_folder(self, path: Path) -> None:
        """Make one folder that only this user can enter."""
        path.mkdir(0o700)

    def settle_file(self, path: Path, mode: int) -> None:
        """Give a file its permissions and wait until its content is on disk."""
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fchmod(handle, mode)
            os.fsync(handle)
        finally:
            os.close(handle)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on disk."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; FileExistsError when the name is taken, so that only one of two racers wins."""
        target.hardlink_to(source)

    def remove_file(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder with everything in it. A sweep in another process may be removing it too."""
        # Imported here: shutil costs 10 ms, and reading never removes.
        import shutil

        shutil.rmtree(path, onerror=_raise_unless_gone)

    def lock_folder(self, path: Path) -> int | None:
        """Take the lock that says somebody works in this folder; None when somebody else does, or it is gone.

        The kernel drops the lock with the last process that holds the handle, however that process ends.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A sweep may have removed it between the open and the lock.
            if os.fstat(handle).st_nlink > 0 and path.exists():
                return handle
        except BlockingIOError:
            pass
        os.close(handle)
        return None

    def unlock(self, handle: int) -> None:
        os.close(handle)

    def connect(self, uri: str) -> sqlite3.Connection:
        """A connection whose transactions begin and end only where we say so."""
        return sqlite3.connect(
            uri,
            uri=True,
            timeout=self.busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
            factory=self.connection_class,
        )


def _raise_unless_gone(_function: object, _path: str, failure: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]
