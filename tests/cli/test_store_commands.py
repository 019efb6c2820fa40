"""ls, show, rm, alias and events against a real store."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import TOWLINE, Run

Publish = Callable[..., Any]


def test_an_empty_store_says_what_to_do_and_is_not_made_by_looking(towline: Run, home: Path) -> None:
    for words in (("ls",), ("alias",), ("events",), ("events", "--verify"), ("ps",), ("doctor",)):
        assert towline(*words).code == 0
    assert towline("ls", "--json").json() == {"schema": "towline.ls/1", "versions": [], "next_after": ""}
    assert not home.exists()


@pytest.mark.parametrize("words", [("show", "nope"), ("ls", "nope"), ("rm", "nope:1", "-y"), ("alias", "nope", "champion")])
@pytest.mark.parametrize("is_empty", [True, False])
def test_what_is_not_there_is_exit_code_4(towline: Run, publish: Publish, words: tuple[str, ...], is_empty: bool) -> None:
    if not is_empty:
        publish("digits")

    ran = towline(*words)

    assert ran.code == 4
    assert "nope" in ran.err
    assert "hint: " in ran.err


def test_versions_are_listed_newest_first_with_their_aliases(towline: Run, publish: Publish) -> None:
    first, second = publish("digits", b"1"), publish("digits", b"2")
    publish("birds", b"3")
    towline("alias", "digits:1", "champion")

    rows = [line.split()[:4] for line in towline("ls").out.splitlines()[1:]]
    found = towline("ls", "--json", "digits").json()

    assert rows == [["birds", "1", "-", "onnxruntime"], ["digits", "2", "-", "onnxruntime"], ["digits", "1", "champion", "onnxruntime"]]
    assert [(row["version"], row["digest"], row["aliases"]) for row in found["versions"]] == [
        (2, second.digest, []),
        (1, first.digest, ["champion"]),
    ]


def test_pages_follow_one_another_without_gap_or_overlap(towline: Run, publish: Publish) -> None:
    for name in ("a", "b"):
        for number in range(3):
            publish(name, f"{name}{number}".encode())
    seen: list[tuple[str, int]] = []
    after: tuple[str, ...] = ()
    while True:
        page = towline("ls", "--json", "--limit", "2", *after).json()
        seen += [(row["name"], row["version"]) for row in page["versions"]]
        if not page["next_after"]:
            break
        after = ("--after", page["next_after"])

    assert seen == [("a", 3), ("a", 2), ("a", 1), ("b", 3), ("b", 2), ("b", 1)]
    assert "towline ls --after a:2" in towline("ls", "--limit", "2").err


def test_show_tells_a_version_however_it_is_named(towline: Run, publish: Publish) -> None:
    version = publish("digits")
    towline("alias", "digits", "champion")

    for ref in ("digits", "digits:1", "digits@champion", version.digest, version.digest[:15]):
        found = towline("show", ref, "--json").json()
        assert (found["name"], found["version"], found["digest"], found["aliases"]) == ("digits", 1, version.digest, ["champion"])
        assert found["manifest"]["facts"]["parameters"] == 12345
    out = towline("show", "digits").out
    assert "x float32[N,3]" in out
    assert "y float32[N,2]" in out
    assert "no: rows change one another" in out


def test_an_alias_moves_atomically_and_remembers_where_it_was(towline: Run, publish: Publish) -> None:
    publish("digits", b"1")
    publish("digits", b"2")

    set_ran = towline("alias", "digits:1", "champion", "-m", "first")
    moved = towline("alias", "digits", "champion", "--expected", "1", "--json").json()
    lost = towline("alias", "digits:1", "champion", "--expected", "1")

    assert set_ran.out == "digits@champion -> 1\n"
    assert moved["change"] == {"name": "digits", "alias": "champion", "before": 1, "after": 2, "dry_run": False}
    assert lost.code == 5
    assert towline("alias", "--json").json()["aliases"] == [{"name": "digits", "alias": "champion", "version": 2}]
    history = towline("alias", "digits", "--history", "--json").json()["history"]
    assert {(move["version"], move["why"]) for move in history} == {(1, "first"), (2, "")}


def test_the_next_line_of_a_move_undoes_it(towline: Run, publish: Publish) -> None:
    publish("digits", b"1")
    publish("digits", b"2")
    towline("alias", "digits:1", "champion")
    back = towline("alias", "digits:2", "champion").err.partition("next  ")[2].partition("(")[0].split()

    assert back[0] == "towline"
    assert towline(*back[1:]).out == "digits@champion -> 1 (was 2)\n"


def test_an_alias_is_removed_when_told_so(towline: Run, publish: Publish) -> None:
    publish("digits")
    towline("alias", "digits", "champion")

    assert towline("alias", "digits", "champion", "--remove", "--dry-run").code == 0
    assert towline("alias", "--json").json()["aliases"] != []
    assert towline("alias", "digits", "champion", "--remove").code == 0
    assert towline("alias", "--json").json()["aliases"] == []
    assert towline("alias", "digits", "champion", "--remove").code == 4


def test_rm_without_a_terminal_needs_yes(process: Run, towline: Run, publish: Publish) -> None:
    publish("digits")

    ran = process("rm", "digits:1")

    assert ran.code == 2
    assert "--yes" in ran.err
    assert len(towline("ls", "--json").json()["versions"]) == 1


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\n", 1, 1), (b"\x04", 130, 1)])
def test_rm_on_a_terminal_asks_once(publish: Publish, towline: Run, answer: bytes, code: int, left: int) -> None:
    publish("digits")
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*TOWLINE, "rm", "digits:1"], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 1000)
    os.write(ours, answer)
    process.wait(120)
    os.close(ours)

    assert process.returncode == code
    assert len(towline("ls", "--json").json()["versions"]) == left


def test_a_dry_run_removes_nothing_and_says_what_it_would(towline: Run, publish: Publish) -> None:
    publish("digits")

    ran = towline("rm", "digits:1", "--dry-run")

    assert ran.code == 0
    assert ran.out.startswith("would remove digits:1")
    assert len(towline("ls", "--json").json()["versions"]) == 1


def test_a_version_goes_with_its_folder(towline: Run, publish: Publish) -> None:
    version = publish("digits")

    removed = towline("rm", "digits:1", "--yes", "--json", "-m", "unused").json()

    assert removed["removed"] == [{"name": "digits", "version": 1, "digest": version.digest}]
    assert not version.path.exists()
    assert towline("events", "--kind", "version.removed", "--json").json()["events"][0]["why"] == "unused"


def test_a_bare_name_removes_nothing_without_all(towline: Run, publish: Publish) -> None:
    publish("digits", b"1")
    publish("digits", b"2")

    refused = towline("rm", "digits", "--yes")

    assert refused.code == 2
    assert "digits:1" in refused.err
    assert towline("rm", "digits:1", "--all", "--yes").code == 2
    assert towline("rm", "digits", "--all", "--yes").code == 0
    assert towline("ls", "--json").json()["versions"] == []


def test_a_version_an_alias_points_at_stays_and_so_do_its_neighbours(towline: Run, publish: Publish) -> None:
    publish("digits", b"1")
    publish("digits", b"2")
    towline("alias", "digits:1", "champion")

    ran = towline("rm", "digits", "--all", "--yes")

    assert ran.code == 5
    assert "champion" in ran.err
    assert len(towline("ls", "--json").json()["versions"]) == 2


def test_events_tell_who_did_what_and_the_chain_is_checked(towline: Run, publish: Publish, home: Path) -> None:
    publish("digits", why="weekly\x1b[2J")
    towline("alias", "digits", "champion")

    found = towline("events", "--json").json()["events"]
    out = towline("events", "digits").out

    assert [(event["kind"], event["name"]) for event in found] == [("version.imported", "digits"), ("alias.moved", "digits")]
    assert (found[0]["actor"], found[0]["why"]) == ("ann", "weekly\x1b[2J")
    assert "\x1b" not in out
    assert towline("events", "--verify").code == 0

    import sqlite3

    with sqlite3.connect(home / "towline.db") as connection:
        connection.execute("update events set actor = 'eve' where number = 1")
    connection.close()
    broken = towline("events", "--verify")
    assert broken.code == 1
    assert "error: " in broken.err
    assert towline("events", "--verify", "--json").json()["chain_is_whole"] is False
    assert towline("doctor").code == 1


def test_a_deployed_version_stays_until_the_model_goes_with_its_deployment(towline: Run, publish: Publish, home: Path) -> None:
    from towline.core.deployment import Deployment
    from towline.store.sqlite import open_store

    publish("digits", b"1")
    publish("digits", b"2")
    with open_store(home) as store:
        store.put_deployment(Deployment("digits"), actor="ann")

    for refused in (towline("rm", "digits:2", "--dry-run"), towline("rm", "digits:2", "--yes")):
        assert refused.code == 5
        assert "towline rm digits --all" in refused.err
    assert towline("rm", "digits:1", "--yes").code == 0
    assert towline("rm", "digits", "--all", "--yes", "--json").json()["deployment"] == "digits"
    assert towline("ls", "--json").json()["versions"] == []


def test_a_version_that_a_running_server_has_stays(towline: Run, publish: Publish, home: Path) -> None:
    import fcntl
    import json

    publish("digits", b"1")
    (home / "run").mkdir()
    model = {"name": "digits", "version": 1, "digest": "", "state": "ready", "since_s": 1, "pid": None, "error": ""}
    content = {"schema": "towline.server/1", "pid": os.getpid(), "url": "http://h:1", "grpc_url": None, "started_s": 1, "models": [model]}
    (home / "run" / f"server-{os.getpid()}.json").write_text(json.dumps(content))
    with (home / "run" / f"server-{os.getpid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = towline("rm", "digits:1", "--yes")

    assert refused.code == 5
    assert "http://h:1" in refused.err
    assert towline("rm", "digits:1", "--yes").code == 0
