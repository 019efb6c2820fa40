"""Killed at every point of every change, the store holds the old state or the new one, and nothing is left over."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from changes import CHANGES, carry_out, prepare
from dying import Countdown, PointedDisk, run_and_die
from store_making import HandClock, add, complaints, fast_folder, state

from towline.core.errors import Conflict, TowlineError
from towline.store import opening, schema
from towline.store.disk import Disk
from towline.store.files import Files
from towline.store.sqlite import SqliteStore, open_store

# A minute of kills at every step: in the tier that has the time.
pytestmark = pytest.mark.services

NEVER = 1_000_000
# No change has more points; a change that never ends must not run for ever.
MOST_POINTS = 250


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as made:
        yield Path(made)


def read_state(home: Path) -> dict[str, object]:
    with open_store(home, clock=HandClock()) as store:
        assert complaints(store) == []
        return state(store)


def copy_of(home: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(home, target)
    return target


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_killed_has_happened_or_has_not(folder: Path, change: str) -> None:
    start = folder / "start"
    prepare(change, start)
    old = read_state(copy_of(start, folder / "old"))
    carry_out(change, copy_of(start, folder / "new"), Disk())
    new = read_state(folder / "new")

    for at in range(1, MOST_POINTS):
        home = copy_of(start, folder / "killed")
        was_killed, had_finished, _ = run_and_die(lambda disk, home=home: carry_out(change, home, disk), at)
        if at % 3 == 0:
            # The process that cleans up may be killed as well.
            run_and_die(lambda disk, home=home: open_store(home, disk=disk).close(), 1 + at // 3 % 12)
        found = read_state(home)
        assert found == new or (not had_finished and found == old), f"killed at point {at}"
        if not was_killed:
            return
    pytest.fail(f"'{change}' has more than {MOST_POINTS} points")


def test_there_are_more_than_a_hundred_points_to_be_killed_at(folder: Path) -> None:
    points = 0
    for change in CHANGES:
        home = folder / change
        prepare(change, home)
        _, _, passed = run_and_die(lambda disk, home=home, change=change: carry_out(change, home, disk), NEVER)
        points += passed

    assert points > 100


def test_the_first_opening_that_is_killed_leaves_no_store_or_an_empty_one(folder: Path) -> None:
    for at in range(1, MOST_POINTS):
        home = folder / str(at) / "in" / "deep"
        was_killed, _, _ = run_and_die(lambda disk, home=home: open_store(home, disk=disk).close(), at)
        assert read_state(home)["versions"] == []
        if not was_killed:
            return
    pytest.fail("opening never ended")


def test_an_upgrade_that_is_killed_leaves_the_old_format_or_the_new_one(folder: Path) -> None:
    steps = (*schema.STEPS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (1)", "UPDATE versions SET engine = 'later'"))
    prepare("open", folder / "start")
    expected = read_state(copy_of(folder / "start", folder / "old"))

    def upgrade(home: Path, disk: Disk) -> None:
        opening.open_for_writing(Files(home, disk), disk, steps=steps).close()

    for at in range(1, MOST_POINTS):
        home = copy_of(folder / "start", folder / "killed")
        was_killed, had_finished, _ = run_and_die(lambda disk, home=home: upgrade(home, disk), at)
        with sqlite3.connect(home / "towline.db") as peek:
            (found,) = peek.execute("PRAGMA user_version").fetchone()
            engines = {engine for (engine,) in peek.execute("SELECT engine FROM versions")}
            has_later = bool(peek.execute("SELECT 1 FROM sqlite_schema WHERE name = 'later'").fetchone())
        peek.close()
        assert (found, engines, has_later) in ((1, {"onnxruntime"}, False), (2, {"later"}, True))
        assert found == 2 or not had_finished
        if backup := next(home.glob("*.backup"), None):
            shutil.copy(backup, home / "towline.db")
            (home / "towline.db-wal").unlink(missing_ok=True)
            (home / "towline.db-shm").unlink(missing_ok=True)
            assert read_state(home) == expected
        else:
            assert found == 1
        if not was_killed:
            return
    pytest.fail("the upgrade never ended")


def test_a_mending_import_that_is_killed_can_be_done_again(folder: Path) -> None:
    start = folder / "start"
    with open_store(start) as store:
        damaged = add(store, "a", 1).path.relative_to(start) / "model.onnx"
    (start / damaged).chmod(0o600)
    (start / damaged).write_bytes(b"changed")

    for at in range(1, MOST_POINTS):
        home = copy_of(start, folder / "killed")
        was_killed, _, _ = run_and_die(lambda disk, home=home: mend(home, disk), at)
        with open_store(home) as store:
            assert all("The files of a:1" in complaint for complaint in complaints(store))
            assert str(add(store, "a", 1)) == "a:1"
            assert complaints(store) == []
        if not was_killed:
            return
    pytest.fail("the import never ended")


def mend(home: Path, disk: Disk) -> None:
    with open_store(home, disk=disk) as store:
        add(store, "a", 1)


def test_a_neighbour_that_opens_the_store_meanwhile_takes_nothing_away(folder: Path) -> None:
    """Its sweep must see that the import is alive at every point, and clear up after it once it is dead."""
    prepare("import", folder / "start")

    def import_beside_a_neighbour(home: Path, disk: Disk, phase: int) -> None:
        neighbour = Disk()
        neighbour.busy_timeout_s = 0.0

        def look() -> None:
            # Not at every point: a folder that is swept each time before it is locked is refused in the end, rightly.
            if countdown.passed % 4 == phase:
                with contextlib.suppress(Conflict):
                    open_store(home, disk=neighbour).close()

        assert isinstance(disk, PointedDisk)
        countdown = disk.countdown
        countdown.at_each_point = look
        carry_out("import", home, disk)

    for at in range(1, MOST_POINTS):
        home = copy_of(folder / "start", folder / "killed")
        was_killed, had_finished, _ = run_and_die(lambda disk, home=home, phase=at % 4: import_beside_a_neighbour(home, disk, phase), at)
        versions = read_state(home)["versions"]
        assert isinstance(versions, list)
        assert len(versions) == 4 or not had_finished
        if not was_killed:
            return
    pytest.fail("the import never ended")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("change", ["import", "removal"])
def test_a_disk_that_refuses_is_named_and_nothing_is_changed(folder: Path, change: str, number: int) -> None:
    codes = {errno.ENOSPC: "DISK_FULL", errno.EIO: "STORE_IO", errno.EROFS: "READ_ONLY"}
    start = folder / "start"
    prepare(change, start)
    old = read_state(copy_of(start, folder / "old"))
    carry_out(change, copy_of(start, folder / "new"), Disk())
    new = read_state(folder / "new")

    def fail() -> None:
        raise OSError(number, "as the test asked")

    for at in range(1, MOST_POINTS):
        home = copy_of(start, folder / "failed")
        countdown = Countdown(at, fail)
        with open_store(home, clock=HandClock(), disk=PointedDisk(countdown, with_statements=False)) as store:
            countdown.passed = 0
            code = refusal(lambda store=store: CHANGES[change](store))
            assert code in ("", codes[number])
            expected = old if code else new
            assert state(store) == expected
        assert read_state(home) == expected
        if countdown.passed < at:
            return
    pytest.fail("the change never ended")


def test_a_full_disk_under_the_database_is_named_and_its_space_is_given_back(folder: Path) -> None:
    with open_store(folder / "home") as store:
        add(store, "a", 1)
        old = state(store)
        limit_pages(store, extra=0)
        for seed in range(2, 60):
            code = refusal(lambda seed=seed: add(store, "a", seed, why="x" * 2000))
            if code:
                break
            old = state(store)
        assert code == "DISK_FULL"
        assert state(store) == old
        limit_pages(store, extra=1000)
        assert complaints(store) == []
        add(store, "a", 99)
        assert complaints(store) == []


def refusal(change: Callable[[], object]) -> str:
    """The code of the error that a change ends with; empty when it succeeds."""
    try:
        change()
    except TowlineError as error:
        return error.code
    return ""


def limit_pages(store: SqliteStore, *, extra: int) -> None:
    with store._db.read():
        (pages,) = store._db.rows("PRAGMA page_count")[0]
        store._db.rows(f"PRAGMA max_page_count = {pages + extra}")
