"""Disks that fail on purpose: one kills its process at a numbered point, one says no, one forgets what was not synced."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from towline.store.disk import Disk

KILLED = 77


class Countdown:
    """Counts the points a process comes to and runs `act` at one of them."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.passed = 0
        # Done at every point before the count; for a neighbour that works beside us.
        self.at_each_point: Callable[[], None] = lambda: None
        self._at = at
        self._act = act

    def point(self) -> None:
        self.at_each_point()
        self.passed += 1
        if self.passed == self._at:
            self._act()


class PointedDisk(Disk):
    """The real disk, with a point before and after each effect, and in the middle of those that have one."""

    def __init__(self, countdown: Countdown, *, with_statements: bool) -> None:
        self.countdown = countdown
        self.point = countdown.point
        if with_statements:
            self.connection_class = _pointed_connection(countdown)

    def make_folder(self, path: Path) -> None:
        self._around(super().make_folder, path)

    def settle_file(self, path: Path, mode: int) -> None:
        self._around(super().settle_file, path, mode)

    def sync_folder(self, path: Path) -> None:
        self._around(super().sync_folder, path)

    def rename(self, source: Path, target: Path) -> None:
        self._around(super().rename, source, target)

    def link(self, source: Path, target: Path) -> None:
        self._around(super().link, source, target)

    def remove_file(self, path: Path) -> None:
        self._around(super().remove_file, path)

    def remove_tree(self, path: Path) -> None:
        self.point()
        for file in sorted(path.rglob("*"))[:1]:
            if file.is_file():
                file.unlink()
        self._around(super().remove_tree, path)

    def lock_folder(self, path: Path) -> int | None:
        self.point()
        return super().lock_folder(path)

    def _around(self, effect: Callable[..., None], *values: Any) -> None:
        self.point()
        effect(*values)
        self.point()


def _pointed_connection(countdown: Countdown) -> type[sqlite3.Connection]:
    class PointedConnection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql.lstrip().startswith("SELECT"):
                return super().execute(sql, *values)
            countdown.point()
            found = super().execute(sql, *values)
            countdown.point()
            return found

        def backup(self, target: sqlite3.Connection, **options: Any) -> None:
            countdown.point()
            super().backup(target, **options)
            countdown.point()

    return PointedConnection


def die() -> None:
    """End this process as a power cut would: nothing is unwound, flushed or closed."""
    os._exit(KILLED)


def run_and_die(act: Callable[[Disk], None], at: int) -> tuple[bool, bool, int]:
    """Run `act` in a process of its own that dies at point `at`. Returns (was killed, had finished, points passed)."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reads)
            countdown = Countdown(at, die)
            act(PointedDisk(countdown, with_statements=True))
            # What `act` acknowledged; a point after it is still a kill.
            os.write(writes, countdown.passed.to_bytes(4, "big"))
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(1)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), f"the child failed with {code}"
    return code == KILLED, bool(said), int.from_bytes(said, "big")


class ForgetfulDisk(Disk):
    """Remembers what a power cut would leave: a file as it was when synced, a name only if its folder was synced since.

    SQLite's own files are taken as they are once their name is on disk: that SQLite syncs them is its part (synchronous = FULL).
    """

    def __init__(self) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[bool, int]]] = {}
        self._paths: dict[int, Path] = {}
        self.before_effect: Callable[[], None] = lambda: None
        # Kept open, so that no inode number is given to another file meanwhile.
        self._held: list[int] = []

    def make_folder(self, path: Path) -> None:
        self.before_effect()
        super().make_folder(path)

    def settle_file(self, path: Path, mode: int) -> None:
        self.before_effect()
        super().settle_file(path, mode)
        self._contents[self._hold(path)] = path.read_bytes()

    def sync_folder(self, path: Path) -> None:
        self.before_effect()
        super().sync_folder(path)
        self._names[self._hold(path)] = {child.name: (child.is_dir(), self._hold(child)) for child in path.iterdir()}

    def rename(self, source: Path, target: Path) -> None:
        self.before_effect()
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self.before_effect()
        super().link(source, target)

    def remove_tree(self, path: Path) -> None:
        self.before_effect()
        super().remove_tree(path)

    def after_power_cut(self, real: Path, image: Path) -> None:
        """Write into `image` what would be found of the folder `real`."""
        image.mkdir()
        self._write_folder(real.stat().st_ino, image)
        for database in image.rglob("towline.db"):
            original = real / database.relative_to(image)
            for suffix in ("", "-wal"):
                part = original.with_name(original.name + suffix)
                if part.exists():
                    database.with_name(part.name).write_bytes(part.read_bytes())

    def release(self) -> None:
        for handle in self._held:
            os.close(handle)
        self._held.clear()

    def _write_folder(self, inode: int, image: Path) -> None:
        for name, (is_folder, child) in self._names.get(inode, {}).items():
            if is_folder:
                (image / name).mkdir()
                self._write_folder(child, image / name)
            else:
                (image / name).write_bytes(self._contents.get(child, b""))

    def _hold(self, path: Path) -> int:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        self._held.append(handle)
        return os.fstat(handle).st_ino
