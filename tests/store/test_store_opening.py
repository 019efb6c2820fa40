"""Opening: a new store, an old one, a damaged one, one that only reads; and what is swept on the way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from store_making import add, complaints, fill, state

from towline.core.errors import Conflict, TowlineError
from towline.core.refs import Ref
from towline.store import opening, schema
from towline.store.disk import Disk
from towline.store.errors import StoreError
from towline.store.files import Files
from towline.store.sqlite import SqliteStore, open_store

NEXT = (*schema.STEPS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (1)"))


def test_reading_loads_nothing_heavy() -> None:
    script = "import sys, towline.store.sqlite; print(sorted({'numpy', 'msgspec', 'onnx', 'onnxruntime', 'shutil'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_commit_waits_for_the_disk(store: SqliteStore) -> None:
    with store._db.read():
        (synchronous,) = store._db.rows("PRAGMA synchronous")[0]
        (journal,) = store._db.rows("PRAGMA journal_mode")[0]
        (foreign_keys,) = store._db.rows("PRAGMA foreign_keys")[0]

    assert (synchronous, journal, foreign_keys) == (2, "wal", 1)


def test_a_store_that_does_not_exist_reads_as_empty_and_is_not_made(home: Path) -> None:
    with open_store(home, read_only=True) as store:
        assert store.versions() == []
        assert store.events() == []
        assert list(store.check(deep=True)) == []
        with pytest.raises(StoreError, match="for reading only"):
            store.set_alias("a", "b", 1, actor="tester")
    assert not home.exists()


def test_a_store_opened_for_reading_sees_what_others_write_and_writes_nothing(store: SqliteStore, home: Path) -> None:
    with open_store(home, read_only=True) as reader:
        version = add(store, "digits", 1)
        assert reader.version(Ref("digits")) == version
        with pytest.raises(StoreError, match="for reading only"), reader.stage():
            pass
        with pytest.raises(StoreError, match="for reading only"):
            reader.remove(Ref("digits"), actor="tester")
    store.close()
    with open_store(home, read_only=True) as reader:
        assert reader.version(Ref("digits")) == version


def test_the_change_token_moves_with_own_and_foreign_changes_only(store: SqliteStore, home: Path) -> None:
    with open_store(home, read_only=True) as reader, open_store(home) as other:
        tokens = [reader.change_token()]
        assert reader.change_token() == tokens[0]
        add(store, "digits", 1)
        tokens.append(reader.change_token())
        other.set_alias("digits", "champion", 1, actor="tester")
        tokens.append(reader.change_token())
        assert len(set(tokens)) == 3
        assert reader.change_token() == tokens[-1]

        mine = store.change_token()
        store.set_alias("digits", "champion", None, actor="tester")
        assert store.change_token() != mine


def test_a_closed_store_says_so(home: Path) -> None:
    store = open_store(home)
    store.close()
    store.close()

    with pytest.raises(StoreError, match="is closed"):
        store.versions()


def test_a_store_is_not_used_across_a_fork(store: SqliteStore) -> None:
    child = os.fork()
    if child == 0:
        try:
            store.versions()
        except StoreError as error:
            os._exit(7 if "before this process was forked" in error.message else 8)
        os._exit(9)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.versions() == []


# Damage


def refused(home: Path, *, read_only: bool = False) -> TowlineError:
    with pytest.raises(TowlineError) as caught:
        open_store(home, read_only=read_only)
    assert str(home) not in f"{caught.value.message} {caught.value.hint}"
    return caught.value


@pytest.fixture
def filled(home: Path) -> Path:
    with open_store(home) as store:
        add(store, "digits", 1)
    return home


@pytest.mark.parametrize("content", [b"", b"<html>" * 2000])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_that_is_none_is_refused_and_left_alone(filled: Path, content: bytes, read_only: bool) -> None:
    (filled / "towline.db").write_bytes(content)

    error = refused(filled, read_only=read_only)
    assert error.code == "STORE_DAMAGED"
    assert "backup" in error.hint
    assert (filled / "towline.db").read_bytes() == content
    assert len(list((filled / "versions").iterdir())) == 1


def test_another_programs_database_is_refused(filled: Path) -> None:
    (filled / "towline.db").unlink()
    with sqlite3.connect(filled / "towline.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()

    assert "no database of Towline's" in refused(filled).message


@pytest.mark.parametrize("read_only", [False, True])
def test_a_missing_database_is_never_made_anew_beside_versions(filled: Path, read_only: bool) -> None:
    (filled / "towline.db").unlink()

    assert refused(filled, read_only=read_only).code == "DATABASE_MISSING"
    assert not (filled / "towline.db").exists()


def test_a_log_without_its_database_is_not_played_into_a_new_one(home: Path) -> None:
    home.mkdir()
    (home / "towline.db-wal").write_bytes(b"")

    assert refused(home).code == "DATABASE_MISSING"


def test_a_bad_page_is_named_and_found_by_the_check(filled: Path) -> None:
    raw = bytearray((filled / "towline.db").read_bytes())
    page = int.from_bytes(raw[16:18], "big")
    with sqlite3.connect(filled / "towline.db") as peek:
        (root,) = peek.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'versions'").fetchone()
    peek.close()
    raw[(root - 1) * page : root * page] = b"\xff" * page
    (filled / "towline.db").write_bytes(raw)

    with open_store(filled) as store:
        with pytest.raises(StoreError, match=r"towline\.db is damaged") as caught:
            store.versions()
        assert caught.value.code == "STORE_DAMAGED"
        assert any("towline.db is damaged" in finding for finding in findings_until_error(store))


def findings_until_error(store: SqliteStore) -> list[str]:
    found = []
    try:
        for finding in store.check():
            found.append(finding)
    except StoreError as error:
        found.append(error.message)
    return found


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_bytes(b"")

    assert refused(tmp_path / "home").code == "STORE_IO"


# Sweeping


def test_what_a_dead_process_staged_is_swept_and_what_a_living_one_stages_is_not(store: SqliteStore, home: Path) -> None:
    dead = home / "staging" / "dead"
    dead.mkdir()
    fill(dead, 1)
    (home / "staging" / "a file").write_bytes(b"")

    with store.stage() as living:
        fill(living, 2)
        with open_store(home) as other:
            assert sorted((home / "staging").iterdir()) == [living]
            assert store.publish(living, "digits", actor="tester").number == 1
            assert complaints(other) == []


def test_a_folder_that_nobody_knows_is_reported_and_kept(filled: Path) -> None:
    """As when a backup of towline.db was put back: what was imported since then is somebody's work."""
    stranger = filled / "versions" / ("sha256-" + "0" * 64)
    stranger.mkdir()

    with open_store(filled) as store:
        assert any("belongs to no version" in finding for finding in store.check())
    assert stranger.is_dir()


# Formats


def upgraded(home: Path) -> int:
    files = Files(home, Disk())
    database = opening.open_for_writing(files, Disk(), steps=NEXT)
    with database.read():
        (found,) = database.rows("PRAGMA user_version")[0]
        assert [row["x"] for row in database.rows("SELECT x FROM later")] == [1]
    database.close()
    return int(found)


def test_an_old_format_is_upgraded_once_after_a_backup_that_opens(filled: Path, tmp_path: Path) -> None:
    with open_store(filled, read_only=True) as store:
        before = state(store)

    assert upgraded(filled) == upgraded(filled) == 2
    backup = filled / "towline.db.format-1.backup"
    restored = tmp_path / "restored"
    shutil.copytree(filled, restored)
    shutil.copy(backup, restored / "towline.db")
    with open_store(restored) as store:
        assert state(store) == before
        assert complaints(store) == []


def test_a_newer_format_is_refused_and_says_which_backup_to_take(filled: Path) -> None:
    upgraded(filled)

    for read_only in (False, True):
        error = refused(filled, read_only=read_only)
        assert error.code == "STORE_TOO_NEW"
        assert "towline.db.format-1.backup" in error.hint


def test_an_old_format_is_not_upgraded_by_reading(filled: Path) -> None:
    with pytest.raises(StoreError, match="has format 1, this release reads format 2"):
        opening.open_for_reading(Files(filled, Disk()), Disk(), steps=NEXT)


def test_a_process_of_the_old_release_stops_writing_after_the_upgrade(store: SqliteStore, home: Path) -> None:
    upgraded(home)

    with pytest.raises(Conflict, match="upgraded to format 2"):
        add(store, "digits", 1)
    assert store.versions() == []


def test_a_failing_upgrade_leaves_the_old_format(filled: Path) -> None:
    files = Files(filled, Disk())
    with pytest.raises(sqlite3.OperationalError):
        opening.open_for_writing(files, Disk(), steps=(*schema.STEPS, ("CREATE TABLE later (x)", "no SQL")))

    with open_store(filled) as store:
        assert complaints(store) == []
        with store._db.read():
            assert store._db.row("SELECT 1 FROM sqlite_schema WHERE name = 'later'") is None
