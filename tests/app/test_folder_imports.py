"""Which versions of a watched folder are taken in, when, and what is told of those that are not."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stored_versions import add

from towline.app.serving.folder_imports import FolderImports
from towline.app.serving.watching import Watched, Watcher
from towline.convert.watch import model_in, scan
from towline.core.clock import SystemClock
from towline.core.deployment import Policy
from towline.core.environments import VARIABLE
from towline.core.errors import ImportRefused, TowlineError
from towline.core.event import Event
from towline.store.sqlite import SqliteStore, open_store

ONNX = "model.onnx"


class Place:
    """A folder that is watched, on a real store. An ONNX file that says "broken" is refused."""

    def __init__(self, home: Path, store: SqliteStore) -> None:
        self.folder = home / "digits"
        self.store = store
        self.imports = FolderImports(home, self._import)
        self.taken: list[int] = []

    def _import(self, source: Path, name: str, number: int) -> None:
        self.taken.append(number)
        if source.read_bytes() == b"broken":
            raise ImportRefused("It is torn.", hint="Copy it again.")
        add(self.store, name, source.read_bytes(), number)

    def put(self, number: int | str, content: bytes = b"good", name: str = ONNX) -> None:
        (self.folder / str(number)).mkdir(parents=True, exist_ok=True)
        (self.folder / str(number) / name).write_bytes(content)

    def watcher(self, **more: object) -> Watcher:
        return Watcher(Watched("digits", self.folder, **more), self.store, self.imports, SystemClock())  # type: ignore[arg-type]


def served(watcher: Watcher, looks: int = 2) -> tuple[int, ...]:
    for _ in range(looks):
        deployment = watcher.look()
    return deployment.policy.numbers if deployment else ()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))
    store = open_store(tmp_path / "home")
    yield Place(tmp_path, store)
    store.close()


def test_a_version_counts_once_two_looks_saw_it_alike(place: Place) -> None:
    watcher = place.watcher()
    place.put(1, b"half")
    assert served(watcher, looks=1) == ()
    place.put(1, b"whole")
    assert served(watcher, looks=1) == ()
    assert served(watcher, looks=1) == (1,)
    assert place.taken == [1]


def test_a_folder_without_numbers_is_told_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    watcher = place.watcher()
    (place.folder / "mine").mkdir(parents=True)
    (place.folder / "saved_model.pb").write_bytes(b"")

    assert served(watcher, looks=3) == ()
    assert caplog.messages == [f"digits: {place.folder} holds no version; each is a folder named by its number: 1, 2, …."]


def test_only_what_is_to_be_served_is_taken_in(place: Place) -> None:
    for number in (1, 2, 3):
        place.put(number, b"%d" % number)

    assert served(place.watcher()) == (3,)
    assert place.taken == [3]
    assert served(place.watcher(policy=Policy("all")), looks=3) == (1, 2, 3)


def test_a_label_has_its_version_taken_in_where_labels_may_point_anywhere(place: Place) -> None:
    for number in (1, 2, 3):
        place.put(number, b"%d" % number)

    assert served(place.watcher(labels={"old": 1}, loose_labels=True)) == (3,)
    assert sorted(place.taken) == [1, 3]


def test_a_refused_version_is_told_once_and_the_next_lower_one_serves_until_it_is_mended(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = place.watcher()
    place.put(1)
    place.put(2, b"broken")
    assert served(watcher, looks=4) == (1,)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "digits:2 was not imported: It is torn. Copy it again."
    ]
    assert place.taken == [2, 1]

    # Of another length: clocks of files are coarse.
    place.put(2, b"mended now")
    assert served(watcher, looks=2) == (2,)


def test_a_refused_version_is_an_event_with_its_reason_once_for_the_same_files_also_after_a_restart(place: Place) -> None:
    def told() -> list[tuple[object, ...]]:
        found = place.store.events(name="digits", kind="version.refused")
        return [(event.actor, event.why, event.data["number"], event.data["code"]) for event in found]

    place.put(1)
    place.put(2, b"broken")
    assert served(place.watcher(), looks=5) == (1,)
    place.imports = FolderImports(place.folder.parent, place._import)
    assert served(place.watcher(), looks=5) == (1,)
    assert place.taken.count(2) == 2
    assert told() == [("server", "It is torn.", 2, "IMPORT_REFUSED")]

    place.put(3, b"broken")
    assert served(place.watcher(), looks=5) == (1,)
    assert [number for _, _, number, _ in told()] == [2, 3]
    os.utime(place.folder / "2" / ONNX, (1, 1))
    assert served(place.watcher(), looks=5) == (1,)
    assert [number for _, _, number, _ in told()] == [2, 3, 2]


def test_a_store_that_takes_no_event_does_not_stop_what_is_served(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(event: Event) -> None:
        raise TowlineError("The disk is full.")

    monkeypatch.setattr(place.store, "append", full)
    place.put(1)
    place.put(2, b"broken")

    assert served(place.watcher(), looks=5) == (1,)
    assert caplog.messages[-1] == "that digits:2 was not imported could not be recorded: The disk is full."


def test_the_same_content_under_a_new_number_is_told_and_goes_on_under_the_old_one(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    watcher = place.watcher()
    place.put(1)
    assert served(watcher) == (1,)
    place.put(2)

    assert served(watcher, looks=3) == (1,)
    assert caplog.messages == ["digits:2 holds what another number holds, under which it is known and served."]


def test_numbers_may_begin_with_zeros_as_those_of_tf_serving_do(place: Place) -> None:
    place.put("00000123")
    place.put("0")
    place.put("1.5")

    assert served(place.watcher()) == (123,)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([ONNX, "saved_model.pb"], ONNX),
        (["saved_model.pb", "model.tflite"], ""),
        (["model.tflite"], "model.tflite"),
        (["weights.bin"], None),
    ],
)
def test_of_a_versions_folder_a_file_is_taken_or_the_folder(place: Place, files: list[str], expected: str | None) -> None:
    for name in files:
        place.put(1, name=name)
    folder = place.folder / "1"

    assert model_in(folder) == (None if expected is None else folder / expected)
    assert list(scan(place.folder)) == ([] if expected is None else [1])


def test_a_saved_model_without_its_environment_is_told_with_the_command_that_makes_it_and_what_is_there_serves(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.put(1)
    place.put(2, b"\x08\x01", "saved_model.pb")

    assert served(place.watcher(), looks=3) == (1,)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == (
        "digits:2 was not imported: This needs the 'tensorflow' environment, which is not on this machine."
        " Make it once: towline env create tensorflow"
    )


def test_a_saved_model_is_taken_in_by_a_process_of_its_own_as_soon_as_its_environment_is_there(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = place.watcher()
    place.put(1)
    place.put(2, b"\x08\x01", "saved_model.pb")
    assert served(watcher, looks=3) == (1,)
    # One that has no TensorFlow: whether it cannot be started or ends at once, the version is refused by name.
    python = tmp_path / "environments" / "tensorflow" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 9\n")
    python.chmod(0o755)
    (python.parent.parent / "ready.json").write_text(json.dumps({}))
    caplog.clear()

    # However long it takes, no look waits for it: the one that serves goes on.
    until_s = time.monotonic() + 30
    while not caplog.records and time.monotonic() < until_s:
        assert served(watcher, looks=1) == (1,)
        time.sleep(0.05)

    (told,) = caplog.messages
    assert told.startswith("digits:2 was not imported: The ")
    assert "env create" not in told
    assert place.taken == [1]
