"""Several processes and threads on one store: every change is whole, or refused as a conflict."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_making import add, complaints, fill

from towline.core.errors import Conflict
from towline.core.event import Event
from towline.core.refs import Ref
from towline.store.disk import Disk
from towline.store.sqlite import SqliteStore, open_store

IMPORTS = 12
# Waits for "go", imports, prints the numbers it was given; each version but the first is its own.
IMPORTER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from store_making import add
from towline.store.sqlite import open_store
print("ready", flush=True)
sys.stdin.readline()
numbers = []
for index in range(int(sys.argv[4])):
    with open_store(Path(sys.argv[2])) as store:
        numbers.append(add(store, "digits", f"{sys.argv[3]} {index}" if index else "shared").number)
print(json.dumps(numbers), flush=True)
"""


def start(script: str, *values: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(Path(__file__).parent), *values]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_that_import_at_once_lose_no_number(home: Path) -> None:
    """They also make the store at once, and each opening sweeps while the other works."""
    importers = [start(IMPORTER, str(home), name, str(IMPORTS)) for name in ("ann", "bob")]
    for importer in importers:
        assert importer.stdin is not None
        importer.stdin.write("go\n")
        importer.stdin.flush()
    numbers = [json.loads(importer.communicate(timeout=300)[0]) for importer in importers]

    assert [importer.returncode for importer in importers] == [0, 0]
    with open_store(home) as store:
        assert numbers[0][0] == numbers[1][0], "the content they share is one version"
        assert sorted({*numbers[0], *numbers[1]}) == list(store.numbers("digits")) == list(range(1, 2 * IMPORTS))
        assert len(store.events(limit=1000)) == 2 * IMPORTS - 1
        assert complaints(store) == []


STAGER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from store_making import fill
from towline.store.sqlite import open_store
with open_store(Path(sys.argv[2])) as store, store.stage() as folder:
    fill(folder, 1)
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_the_lock_of_a_staged_folder_ends_with_its_process(home: Path) -> None:
    stager = start(STAGER, str(home))
    try:
        open_store(home).close()
        assert len(list((home / "staging").iterdir())) == 1
    finally:
        stager.kill()
        stager.communicate(timeout=120)

    open_store(home).close()
    assert list((home / "staging").iterdir()) == []


class Impatient(Disk):
    busy_timeout_s = 0.05


def test_a_store_that_another_process_holds_is_a_conflict_and_reading_goes_on(store: SqliteStore, home: Path) -> None:
    version = add(store, "digits", 1)
    other = sqlite3.connect(home / "towline.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with open_store(home, disk=Impatient()) as waiting:
        with pytest.raises(Conflict, match="has not finished in time") as caught:
            waiting.set_alias("digits", "champion", 1, actor="tester")
        assert caught.value.code == "STORE_BUSY"
        with pytest.raises(Conflict, match="has not finished in time"):
            add(waiting, "digits", 2)
        assert waiting.versions() == [version]
        other.execute("ROLLBACK")
        assert add(waiting, "digits", 2).number == 2
        assert complaints(waiting) == []
    other.close()


def test_a_publish_that_met_a_conflict_can_be_tried_again_from_the_same_folder(store: SqliteStore, home: Path) -> None:
    other = sqlite3.connect(home / "towline.db", isolation_level=None)
    with open_store(home, disk=Impatient()) as waiting, waiting.stage() as folder:
        fill(folder, 1)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Conflict):
            waiting.publish(folder, "digits", actor="tester")
        other.execute("ROLLBACK")
        assert waiting.publish(folder, "digits", actor="tester").number == 1
    other.close()
    assert complaints(store) == []


class Interrupted(Disk):
    """Lets a neighbour act once, just before a statement that begins with `before` runs for the `nth` time."""

    def __init__(self, meanwhile: Callable[[], object], *, before: str, nth: int) -> None:
        waiting = [meanwhile] + [lambda: None] * (nth - 1)

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if sql.startswith(before) and waiting:
                    waiting.pop()()
                return super().execute(sql, *values)

        self.connection_class = Connection


def late_in_a_publish(meanwhile: Callable[[], object]) -> Disk:
    """After everything was checked and read, before the lock is held: the first lock is for the note, the second for the row."""
    return Interrupted(meanwhile, before="BEGIN IMMEDIATE", nth=2)


def test_a_name_taken_in_another_case_meanwhile_is_a_conflict(store: SqliteStore, home: Path) -> None:
    with open_store(home, disk=late_in_a_publish(lambda: add(store, "Digits", 1))) as late:
        with pytest.raises(Conflict, match="existing model 'Digits' only by case"):
            add(late, "digits", 2)
        assert complaints(late) == []


def test_content_that_was_published_meanwhile_is_used(store: SqliteStore, home: Path) -> None:
    placed: list[int] = []
    disk = late_in_a_publish(lambda: placed.append(add(store, "mine", 1).path.stat().st_ino))
    with open_store(home, disk=disk) as late:
        assert [add(late, "yours", 1).path.stat().st_ino] == placed
        assert complaints(late) == []


def test_content_that_was_removed_meanwhile_is_put_back(store: SqliteStore, home: Path) -> None:
    add(store, "mine", 1)
    with open_store(home, disk=late_in_a_publish(lambda: store.remove(Ref("mine"), actor="tester"))) as late:
        add(late, "yours", 1)
        assert complaints(late) == []


def test_a_store_that_was_made_meanwhile_is_not_replaced(home: Path) -> None:
    class Slow(Disk):
        def link(self, source: Path, target: Path) -> None:
            with open_store(home) as first:
                add(first, "digits", 1)
            super().link(source, target)

    with open_store(home, disk=Slow()) as second:
        assert second.numbers("digits") == (1,)
        assert complaints(second) == []


def test_a_folder_that_a_sweep_took_before_it_was_locked_is_not_used(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    flock = fcntl.flock

    def late_flock(handle: int, operation: int) -> None:
        if not taken:
            taken.append(os.readlink(f"/proc/self/fd/{handle}"))
            os.rmdir(taken[0])
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    with store.stage() as folder:
        assert folder.is_dir()
        assert str(folder) not in taken


def test_an_event_that_comes_during_the_check_of_the_chain_is_no_break(store: SqliteStore, home: Path) -> None:
    store.append(Event("a.thing", "server", 0.0))
    disk = Interrupted(lambda: store.append(Event("a.thing", "server", 0.0)), before="SELECT number, hash FROM chain", nth=2)
    with open_store(home, disk=disk) as reader:
        assert list(reader.verify_events()) == []


def test_threads_share_one_store(store: SqliteStore) -> None:
    add(store, "digits", 1)
    add(store, "digits", 2)
    failures: list[BaseException] = []

    def work(alias: str) -> None:
        try:
            for index in range(20):
                store.set_alias("digits", alias, index % 2 + 1, actor=alias)
                assert len(store.versions()) == 2
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"t{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)

    assert failures == []
    assert store.aliases() == {"digits": {f"t{index}": 2 for index in range(4)}}
    assert list(store.verify_events()) == []
