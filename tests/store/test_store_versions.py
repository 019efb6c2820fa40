"""Versions: published once, numbered for ever, removed only when nothing needs them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from store_making import add, complaints, fill, source

from towline.core.deployment import Deployment, Policy
from towline.core.errors import Conflict, InvalidRequest, NotFound, VersionError
from towline.core.refs import Ref, parse_ref
from towline.core.store import Store
from towline.store.sqlite import SqliteStore, open_store


def test_the_store_keeps_its_contract(store: SqliteStore) -> None:
    kept: Store = store

    assert all(hasattr(kept, name) for name in dir(Store) if not name.startswith("_"))


def test_a_published_folder_is_a_version_named_by_its_content(store: SqliteStore, home: Path) -> None:
    version = add(store, "digits", 1)

    assert str(version) == "digits:1"
    assert version.path == home / "versions" / version.digest.replace(":", "-")
    assert version.manifest.origin.source_digest == version.source_digest == source(1)
    assert (version.path / "golden" / "1.frames").read_bytes() == b"frames"
    assert version.size_bytes == sum(file.stat().st_size for file in version.path.rglob("*") if file.is_file())
    assert complaints(store) == []


def test_numbers_count_up_per_name_and_are_never_used_again(store: SqliteStore) -> None:
    first, second = add(store, "digits", 1), add(store, "digits", 2)
    store.remove(Ref("digits", 2), actor="tester")
    store.remove(Ref("digits", 1), actor="tester")

    assert (first.number, second.number) == (1, 2)
    assert add(store, "digits", 2).number == 3
    assert add(store, "faces", 1).number == 1


def test_the_same_content_under_the_same_name_is_the_same_version(store: SqliteStore, home: Path) -> None:
    first = add(store, "digits", 1)
    again = add(store, "digits", 1)

    assert again == first
    assert [event.kind for event in store.events()] == ["version.imported"]
    assert list((home / "staging").iterdir()) == []


def test_two_names_share_one_folder_and_the_last_one_takes_it_along(store: SqliteStore) -> None:
    mine, yours = add(store, "mine", 1), add(store, "yours", 1)
    assert mine.path == yours.path

    store.remove(Ref("mine"), actor="tester")
    assert yours.path.is_dir()

    store.remove(Ref("yours"), actor="tester")
    assert not yours.path.exists()
    assert complaints(store) == []


def test_names_that_differ_only_by_case_are_refused_with_the_other_name(store: SqliteStore) -> None:
    add(store, "digits", 1)

    with pytest.raises(Conflict, match="existing model 'digits' only by case"):
        add(store, "Digits", 2)
    with pytest.raises(Conflict, match="existing model 'digits' only by case"):
        store.put_deployment(Deployment("DIGITS"), actor="tester")

    store.remove(Ref("digits"), actor="tester")
    assert add(store, "Digits", 2).number == 2


def test_a_ref_finds_by_number_alias_digest_and_latest(store: SqliteStore) -> None:
    first, second = add(store, "digits", 1), add(store, "digits", 2)
    store.set_alias("digits", "champion", 1, actor="tester")

    assert store.version(parse_ref("digits")) == second
    assert store.version(parse_ref("digits:1")) == first
    assert store.version(parse_ref("digits@champion")) == first
    assert store.version(parse_ref(second.digest[:19])) == second


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("digitz", "no model 'digitz'.*Did you mean 'digits'"),
        ("Digits", "no model 'Digits'.*Did you mean 'digits'"),
        ("zzz", "no model 'zzz'.*There is: digits"),
        ("digits:7", "no version 7. It has: 1"),
        ("digits:999999999999999999", "no version 9+. It has: 1"),
        ("digits@nobody", "no alias 'nobody'. It has: @champion"),
        ("sha256:00000000", "begins sha256:00000000"),
    ],
)
def test_what_is_not_found_is_told_with_what_there_is(store: SqliteStore, text: str, says: str) -> None:
    add(store, "digits", 1)
    store.set_alias("digits", "champion", 1, actor="tester")

    with pytest.raises(NotFound) as caught:
        store.version(parse_ref(text))
    assert re.search(says, f"{caught.value.message} {caught.value.hint}")


def test_an_ambiguous_digest_is_refused_and_never_guessed(store: SqliteStore) -> None:
    add(store, "mine", 1)
    add(store, "yours", 1)
    digest = store.version(Ref("mine")).digest

    with pytest.raises(Conflict, match="mine:1, yours:1 all have this digest"):
        store.remove(Ref(digest=digest), actor="tester")
    add(store, "mine", 2)
    with pytest.raises(Conflict, match="begins more than one digest"):
        store.version(Ref(digest="sha256:"))


def test_a_version_that_something_needs_stays(store: SqliteStore) -> None:
    for seed in (1, 2, 3, 4):
        add(store, "digits", seed)
    store.set_alias("digits", "champion", 1, actor="tester")
    store.put_deployment(Deployment("digits", Policy("latest", 1), labels={"stable": 2}), actor="tester")

    for number, why in ((1, "alias digits@champion"), (2, "label 'stable'"), (4, r"serves it \(latest\)")):
        with pytest.raises(Conflict, match=why):
            store.remove(Ref("digits", number), actor="tester")
    store.remove(Ref("digits", 3), actor="tester")
    assert store.numbers("digits") == (1, 2, 4)


def test_an_import_of_a_known_source_finds_its_newest_version(store: SqliteStore) -> None:
    add(store, "digits", 1)
    second = add(store, "digits", 2)

    assert store.find_source("digits", source(2)) == second
    assert store.find_source("digits", source(3)) is None
    assert store.find_source("faces", source(2)) is None


def test_importing_again_mends_a_damaged_version(store: SqliteStore) -> None:
    version = add(store, "digits", 1)
    model = version.path / "model.onnx"
    model.chmod(0o600)
    model.write_bytes(b"changed")
    assert "changed after sealing" in complaints(store)[0]

    assert add(store, "digits", 1) == version
    assert complaints(store) == []
    assert store.events()[-1].kind == "version.repaired"


def test_a_version_whose_files_are_gone_is_no_known_source_and_is_brought_back(store: SqliteStore) -> None:
    version = add(store, "digits", 1)
    version.path.rename(version.path.with_name("elsewhere"))
    assert store.find_source("digits", source(1)) is None
    assert any("The files of digits:1 are gone" in finding for finding in store.check())

    add(store, "digits", 1)
    assert version.manifest.engine == "onnxruntime"


def test_a_folder_that_is_no_version_is_refused_before_anything_changes(store: SqliteStore, home: Path) -> None:
    def link(folder: Path) -> None:
        fill(folder, 1)
        (folder / "link").symlink_to("/etc/passwd")

    def bad_name(folder: Path) -> None:
        fill(folder, 1)
        (folder / "two\nlines").write_bytes(b"")

    def bad_manifest(folder: Path) -> None:
        (folder / "manifest.json").write_bytes(b"{}")

    for spoil, says in (
        (lambda _: None, "no manifest.json"),
        (link, "plain file"),
        (bad_name, "control characters"),
        (bad_manifest, "not a manifest"),
    ):
        with store.stage() as folder:
            spoil(folder)
            with pytest.raises(VersionError, match=says):
                store.publish(folder, "digits", actor="tester")
    assert store.versions() == []
    assert complaints(store) == []


def test_only_a_folder_of_this_store_can_be_published(store: SqliteStore, tmp_path: Path) -> None:
    fill(tmp_path, 1)

    with pytest.raises(InvalidRequest, match="no folder that this store staged"):
        store.publish(tmp_path, "digits", actor="tester")
    with store.stage() as folder:
        fill(folder, 1)
        store.publish(folder, "digits", actor="tester")
        with pytest.raises(InvalidRequest, match="published already"):
            store.publish(folder, "digits", actor="tester")


def test_data_that_is_not_json_is_refused_before_the_folder_moves(store: SqliteStore) -> None:
    with store.stage() as folder:
        fill(folder, 1)
        with pytest.raises(InvalidRequest, match="plain JSON"):
            store.publish(folder, "digits", actor="tester", data={"when": object()})
        assert store.publish(folder, "digits", actor="tester", data={"report": [1]}).number == 1
    assert store.events()[-1].data == {"report": [1], "number": 1}


def test_what_is_stored_is_closed_to_others_and_to_writing(store: SqliteStore, home: Path) -> None:
    version = add(store, "digits", 1)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (home, home / "staging", home / "versions", version.path)}

    assert set(modes.values()) == {0o700}
    assert stat.S_IMODE((version.path / "model.onnx").stat().st_mode) == 0o400
    assert stat.S_IMODE((home / "towline.db").stat().st_mode) == 0o600
    os.chmod(home, 0o777)
    assert any("can be written by other users" in finding for finding in store.check())


def test_pages_follow_one_another_without_gap_or_repeat(store: SqliteStore) -> None:
    for name in ("a", "b", "c"):
        for seed in range(3):
            add(store, name, seed)

    seen: list[str] = []
    before = None
    while page := store.versions(limit=2, before=before):
        seen += [str(version) for version in page]
        before = (page[-1].name, page[-1].number)
    assert seen == [f"{name}:{number}" for name in "abc" for number in (3, 2, 1)]
    assert [str(version) for version in store.versions("b", limit=2)] == ["b:3", "b:2"]
    assert [str(version) for version in store.versions("b", before=("b", 2))] == ["b:1"]
    assert store.versions("b", before=("c", 3)) == []
    assert [str(version) for version in store.versions("b", limit=1, before=("a", 1))] == ["b:3"]
    with pytest.raises(InvalidRequest, match="at least 1"):
        store.versions(limit=0)


def test_the_first_page_of_ten_thousand_versions_is_read_from_the_index(store: SqliteStore) -> None:
    with store._db.write():
        store._db.execute("INSERT INTO models VALUES ('m', 'm', 10000)")
        store._db.execute(
            """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
               INSERT INTO versions SELECT 'm', i, 'sha256:' || i, 1, 0.0, 'onnxruntime', 'sha256:' || i FROM n"""
        )
    steps: list[int] = []
    store._db._connection.set_progress_handler(lambda: steps.append(100), 100)
    for before in (None, ("m", 5000), ("l", 1)):
        steps.clear()
        assert len(store.versions(before=before)) == 100
        # Steps of SQLite's own machine: some for each of a hundred rows. A walk over all 10,000 rows takes ten of them for each.
        assert sum(steps) < 20_000


def test_text_and_numbers_that_sqlite_cannot_hold_are_no_crash(store: SqliteStore) -> None:
    add(store, "digits", 1, why="from \udcff")

    assert store.events()[-1].why == "from ?"
    assert store.numbers("\udcff") == ()
    assert store.events(after=2**70) == []
    assert len(store.versions(limit=2**70)) == 1
    with pytest.raises(NotFound):
        store.set_alias("digits", "champion", 2**70, actor="tester")
    assert list(store.verify_events()) == []


def test_a_second_process_opening_the_store_sees_all_of_it(store: SqliteStore, home: Path) -> None:
    version = add(store, "digits", 1)

    with open_store(home) as other:
        assert other.version(Ref("digits")) == version
