"""`towline key` makes a key once, lists names, and revokes."""

from __future__ import annotations

from pathlib import Path

from command_line import Run

from towline.app.listing import events


def test_a_key_is_printed_once_and_listed_by_name(towline: Run, home: Path) -> None:
    assert towline("key", "--json").json()["keys"] is None
    assert not home.exists()
    made = towline("key", "alice")
    assert made.code == 0
    assert made.out.startswith("tow_")
    assert made.out.strip() not in made.err
    again = towline("key")
    assert "alice" in again.out
    assert made.out.strip() not in again.out + again.err
    assert [one["name"] for one in towline("key", "--json").json()["keys"]] == ["alice"]


def test_a_name_is_taken_once_and_revoked_once(towline: Run) -> None:
    assert towline("key", "alice", "--json").json()["name"] == "alice"
    assert towline("key", "alice").code == 5
    assert towline("key", "alice", "--revoke", "--json").json()["revoked"] == "alice"
    assert towline("key", "alice", "--revoke").code == 4
    assert towline("key", "--json").json()["keys"] == []
    assert "let nobody in" in towline("key").err
    assert towline("key", "--revoke").code == 2
    assert towline("key", "a/b").code == 2


def test_who_made_and_revoked_a_key_and_why_is_recorded(towline: Run, home: Path) -> None:
    towline("key", "alice", "-m", "for the shop")
    towline("key", "alice", "--revoke", "-m", "she left")

    told = [(event.kind, event.data["key"], event.why) for event in events(home=home)]
    assert told == [("key.created", "alice", "for the shop"), ("key.revoked", "alice", "she left")]


def test_a_server_does_not_start_without_a_lock_it_was_told_to_have(towline: Run, home: Path) -> None:
    ran = towline("serve", "--auth", "keys", "--port", "0", "--grpc-port", "0")
    assert ran.code == 2
    assert "no key was made yet" in ran.err
    home.mkdir()
    (home / "keys.json").write_text("torn")
    (home / "keys.json").chmod(0o600)
    ran = towline("serve", "--port", "0", "--grpc-port", "0")
    assert ran.code == 1
    assert "does not hold keys" in ran.err
