"""Events: chained, bounded in rate, and never changed unseen."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_making import HandClock, add

from towline.core.errors import InvalidRequest
from towline.core.event import GENESIS, Event
from towline.core.refs import Ref
from towline.store.events import MAX_PER_WINDOW, WINDOW_S, still_counting
from towline.store.sqlite import SqliteStore


def crash(name: str = "digits") -> Event:
    return Event("worker.died", "server", 1.0, name, data={"signal": 8})


def test_each_event_is_chained_to_the_one_before(store: SqliteStore) -> None:
    first = store.append(crash())
    second = store.append(Event("alert.raised", "server", 2, "digits", why="späte Antwort", data={"p99_s": 0.25, "of": [1, None]}))

    assert first is not None
    assert second is not None
    assert (first.number, first.previous, second.number, second.previous) == (1, GENESIS, 2, first.hash)
    assert store.events() == [first, second]
    assert list(store.verify_events()) == []


def test_every_change_tells_of_itself_in_order(store: SqliteStore) -> None:
    add(store, "digits", 1, why="a start")
    store.set_alias("digits", "champion", 1, actor="tester")
    store.set_alias("digits", "champion", None, actor="tester")
    store.remove(Ref("digits"), actor="tester", why="an end")

    told = store.events()
    assert [event.kind for event in told] == ["version.imported", "alias.moved", "alias.moved", "version.removed"]
    assert {event.digest for event in told} == {told[0].digest}
    assert (told[0].why, told[-1].why) == ("a start", "an end")


def test_events_are_paged_by_name_and_kind(store: SqliteStore) -> None:
    for index in range(6):
        store.append(Event(f"kind.{index % 2}", "server", 0.0, "ab"[index // 3]))

    assert [event.number for event in store.events(limit=2)] == [5, 6]
    assert [event.number for event in store.events(after=2, limit=2)] == [3, 4]
    assert [event.number for event in store.events(name="b")] == [4, 5, 6]
    assert [event.number for event in store.events(kind="kind.0")] == [1, 3, 5]
    assert [event.number for event in store.events(name="a", kind="kind.0", after=1)] == [3]
    assert store.events(after=6) == []
    with pytest.raises(InvalidRequest, match="at least 1"):
        store.events(limit=0)


def test_a_crash_loop_is_bounded_and_counted(store: SqliteStore, clock: HandClock) -> None:
    accepted = [store.append(crash()) for _ in range(MAX_PER_WINDOW + 7)]
    assert accepted.count(None) == 7
    assert store.append(crash("another")) is not None
    assert store.append(Event("worker.started", "server", 0.0, "digits")) is not None

    clock.at_s += WINDOW_S
    told = store.append(crash())
    assert told is not None
    assert told.data == {"signal": 8, "suppressed": 7}
    following = store.append(crash())
    assert following is not None
    assert "suppressed" not in following.data
    assert list(store.verify_events()) == []


def test_the_count_of_suppressed_events_survives_a_restart(store: SqliteStore, home: Path, clock: HandClock) -> None:
    for _ in range(MAX_PER_WINDOW + 3):
        store.append(crash())
    store.close()

    from towline.store.sqlite import open_store

    # After a restart of the machine the monotonic clock begins again.
    with open_store(home, clock=HandClock(1.0)) as reopened:
        told = reopened.append(crash())
        assert told is not None
        assert told.data["suppressed"] == 3


def test_changes_are_never_suppressed(store: SqliteStore) -> None:
    add(store, "digits", 1)
    add(store, "digits", 2)
    for index in range(MAX_PER_WINDOW + 5):
        store.set_alias("digits", "champion", index % 2 + 1, actor="tester")

    assert len(store.events(kind="alias.moved", limit=1000)) == MAX_PER_WINDOW + 5


@given(st.lists(st.floats(0, 30, allow_nan=False), max_size=80))
def test_no_window_of_sixty_seconds_ever_holds_more_than_twenty(gaps: list[float]) -> None:
    now_s, accepted, log = 100.0, [], []
    for gap in gaps:
        now_s += gap
        accepted = still_counting(accepted, now_s)
        if len(accepted) < MAX_PER_WINDOW:
            accepted.append(now_s)
            log.append(now_s)

    for end in log:
        assert sum(end - WINDOW_S < moment <= end for moment in log) <= MAX_PER_WINDOW


def test_the_table_of_rates_does_not_grow(store: SqliteStore, clock: HandClock) -> None:
    for index in range(50):
        clock.at_s += WINDOW_S
        store.append(crash(f"model-{index}"))

    with store._db.read():
        assert len(store._db.rows("SELECT * FROM event_rates")) == 1


@pytest.mark.parametrize("data", [{"a": float("nan")}, {"a": object()}, {"a": b"raw"}, {"a": "x" * (1 << 20)}])
def test_data_that_is_not_plain_json_of_a_fair_size_is_refused(store: SqliteStore, data: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=r"worker\.died"):
        store.append(Event("worker.died", "server", 0.0, data=data))
    assert store.events() == []


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE events SET why = 'another' WHERE number = 2", "Event 2 was changed"),
        ("UPDATE events SET at_s = at_s + 1 WHERE number = 2", "Event 2 was changed"),
        ("UPDATE events SET data = '{' WHERE number = 2", "Event 2 was changed"),
        ("UPDATE events SET hash = 'x' WHERE number = 2", "Event 3 does not follow event 2"),
        ("DELETE FROM events WHERE number = 2", "Event 2 is missing"),
        ("DELETE FROM events WHERE number IN (2, 3)", "Events 2 to 3 are missing"),
        ("DELETE FROM events WHERE number >= 3", "newest event is 2, but 4 were written"),
        ("UPDATE events SET number = 9 WHERE number = 4", "Events 4 to 8 are missing"),
    ],
)
def test_tampering_with_the_past_is_seen(store: SqliteStore, home: Path, tampering: str, found: str) -> None:
    for index in range(4):
        store.append(Event("a.thing", "server", float(index), data={"index": index}))
    with sqlite3.connect(home / "towline.db") as other:
        other.execute(tampering)
    other.close()

    assert any(found in sentence for sentence in store.verify_events())
