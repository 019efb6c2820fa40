"""Keys are kept as digests, in a file that only its owner may change, and a lock that breaks lets nobody in."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from towline.core.errors import Conflict, NotFound, TowlineError, UsageError
from towline.secure.keys import KeyRing, WatchedRing, change_ring, new_key, read_ring, with_key, without_key


def added(path: Path, name: str) -> str:
    key, kept = new_key(name, now_s=1.0)
    change_ring(path, lambda ring: with_key(ring, kept))
    return key


def test_a_key_is_found_by_its_digest_and_is_nowhere_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = added(path, "alice")
    ring = read_ring(path)

    assert ring is not None
    assert ring.holder_of(key) == "alice"
    assert [ring.holder_of(wrong) for wrong in ("", key[:-1], key + "x", key.lower(), "x" * 10_000)] == [None] * 5
    assert key.removeprefix("tow_") not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_keys_are_never_alike_and_names_are_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"

    assert added(path, "alice") != added(path, "bob")
    with pytest.raises(Conflict, match="'alice' already"):
        added(path, "alice")
    for name in ("", "a b", "../x", "n" * 65, "ключ"):
        with pytest.raises(UsageError, match="cannot name a key"):
            new_key(name, now_s=1.0)


def test_a_revoked_key_is_unknown_and_the_last_one_leaves_a_ring_that_nobody_passes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = added(path, "alice")
    change_ring(path, lambda ring: without_key(ring, "alice"))
    ring = WatchedRing(path)

    assert ring.is_there
    assert ring.holder_of(key) is None
    with pytest.raises(NotFound, match="no key named 'alice'; there are: none"):
        change_ring(path, lambda ring: without_key(ring, "alice"))


def test_without_a_file_nobody_is_asked(tmp_path: Path) -> None:
    assert read_ring(tmp_path / "keys.json") is None
    assert not WatchedRing(tmp_path / "keys.json").is_there


def test_changes_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda index: added(path, f"k{index}"), range(40)))
    ring = read_ring(path)

    assert ring is not None
    assert [ring.holder_of(key) for key in keys] == [f"k{index}" for index in range(40)]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"keys": [{"name": "a"}]}', b"\xff\xfe", b"[" * 5000, b'{"format": 1, "keys": [], "more": 1}']
)
def test_a_broken_file_is_named_and_lets_nobody_in(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(TowlineError, match="does not hold keys"):
        read_ring(path)
    assert WatchedRing(path).is_there


def test_a_file_that_others_may_change_or_that_is_none_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    added(path, "alice")
    path.chmod(0o620)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe", 0o600)

    with pytest.raises(TowlineError, match="others than its owner"):
        read_ring(path)
    for name, why in (("link", "cannot be read"), ("pipe", "no regular file")):
        with pytest.raises(TowlineError, match=why):
            read_ring(tmp_path / name)


def test_a_running_server_takes_over_changes_and_keeps_the_last_good_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = added(path, "first")
    ring = WatchedRing(path)
    assert not ring.refresh()

    second = added(path, "second")
    assert ring.refresh()
    assert (ring.holder_of(first), ring.holder_of(second)) == ("first", "second")

    path.write_bytes(b"torn")
    with pytest.raises(TowlineError, match="does not hold keys"):
        ring.refresh()
    # Told once, not every second.
    assert not ring.refresh()
    assert ring.holder_of(first) == "first"

    path.unlink()
    assert not ring.refresh()
    assert ring.is_there
    assert ring.holder_of(first) == "first"


def test_a_ring_is_never_printed_with_a_secret() -> None:
    key, kept = new_key("alice", now_s=1.0)

    assert key not in repr(with_key(KeyRing(), kept))
