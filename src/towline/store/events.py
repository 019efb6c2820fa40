"""The chain of events in the database; every function runs inside the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from towline.core.errors import InvalidRequest
from towline.core.event import GENESIS, Event, event_hash
from towline.core.refs import clip
from towline.store.database import Database, Row, plain_text

# Of one kind about one name, through `append`: at most so many in so many seconds.
MAX_PER_WINDOW = 20
WINDOW_S = 60.0
MAX_DATA_BYTES = 1 << 20
_BATCH = 500


def record(db: Database, event: Event) -> Event:
    """Put an event at the end of the chain, in the transaction of the change it tells of."""
    head = db.rows("SELECT number, hash FROM chain")[0]
    event = replace(plain(event), number=head["number"] + 1, previous=head["hash"])
    event = replace(event, hash=event_hash(event, event.previous))
    db.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        event.number,
        event.kind,
        event.actor,
        event.at_s,
        event.name,
        event.digest,
        event.why,
        json.dumps(event.data),
        event.previous,
        event.hash,
    )
    db.execute("UPDATE chain SET number = ?, hash = ?", event.number, event.hash)
    return event


def record_bounded(db: Database, event: Event, now_s: float) -> Event | None:
    """`record`, unless its kind came too often for its name: then count it, and tell the count with the next one.

    `now_s` is monotonic seconds.
    """
    event = plain(event)
    found = db.row("SELECT accepted, suppressed FROM event_rates WHERE kind = ? AND name = ?", event.kind, event.name)
    recent = still_counting(json.loads(found["accepted"]) if found else [], now_s)
    suppressed = found["suppressed"] if found else 0
    if len(recent) >= MAX_PER_WINDOW:
        db.execute("UPDATE event_rates SET suppressed = suppressed + 1 WHERE kind = ? AND name = ?", event.kind, event.name)
        return None
    # The table holds what is recent, and what still has a count to tell.
    db.execute("DELETE FROM event_rates WHERE suppressed = 0 AND (last_s > ? OR last_s <= ?)", now_s, now_s - WINDOW_S)
    accepted = json.dumps([*recent, now_s])
    db.execute("INSERT OR REPLACE INTO event_rates VALUES (?, ?, ?, ?, 0)", event.kind, event.name, accepted, now_s)
    return record(db, replace(event, data={**event.data, "suppressed": suppressed}) if suppressed else event)


def still_counting(accepted_s: list[float], now_s: float) -> list[float]:
    """The moments that lie in the window before `now_s`. One later than now is from before a restart of the machine."""
    return [moment for moment in accepted_s if moment <= now_s < moment + WINDOW_S]


def newest(db: Database, *, name: str, kind: str, after: int, limit: int) -> list[Event]:
    """Newest last: the newest `limit` of those that match, or with `after` the first `limit` behind that number."""
    if limit < 1:
        raise InvalidRequest(f"A page of events holds at least 1, not {limit}.", field="limit")
    if after:
        return [_event(row) for row in db.rows(_SELECT[bool(name), bool(kind)] + _FORWARD, *_values(name, kind), after, limit)]
    return [_event(row) for row in reversed(db.rows(_SELECT[bool(name), bool(kind)] + _BACKWARD, *_values(name, kind), 0, limit))]


# By whether a name and a kind are asked for; each is answered by an index.
_SELECT = {
    (False, False): "SELECT * FROM events WHERE",
    (True, False): "SELECT * FROM events WHERE name = ? AND",
    (False, True): "SELECT * FROM events WHERE kind = ? AND",
    (True, True): "SELECT * FROM events WHERE name = ? AND kind = ? AND",
}
_FORWARD = " number > ? ORDER BY number LIMIT ?"
_BACKWARD = " number > ? ORDER BY number DESC LIMIT ?"


def breaks(db: Database) -> Iterator[str]:
    """One sentence for each place where the chain is not what it was when it was written."""
    number, previous = 0, GENESIS
    while True:
        with db.read():
            page = db.rows("SELECT * FROM events WHERE number > ? ORDER BY number LIMIT ?", number, _BATCH)
            head = db.rows("SELECT number, hash FROM chain")[0]
        for row in page:
            found = row["number"]
            if found != number + 1:
                yield f"Events {number + 1} to {found - 1} are missing." if found > number + 2 else f"Event {number + 1} is missing."
            elif row["previous"] != previous:
                yield f"Event {found} does not follow event {number} as it stands: one of them was changed."
            if not _is_unchanged(row):
                yield f"Event {found} was changed after it was written."
            number, previous = found, row["hash"]
        if not page:
            break
    if head["number"] != number:
        yield f"The newest event is {number}, but {head['number']} were written: the last ones are missing."
    elif head["hash"] != previous:
        yield f"Event {number} is not the one that was written last."


def plain(event: Event) -> Event:
    """The event as it will be read back: its data plain JSON, its text valid Unicode. Raises InvalidRequest."""
    try:
        # Surrogates (a path's raw bytes) travel escaped in JSON, but not in a column of text.
        text = json.dumps(event.data, allow_nan=False)
        data = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The data of an event '{clip(event.kind)}' must be plain JSON: {error}.", code="BAD_EVENT") from error
    if not isinstance(data, dict) or len(text) > MAX_DATA_BYTES:
        raise InvalidRequest(
            f"The data of an event '{clip(event.kind)}' must be an object of at most {MAX_DATA_BYTES} bytes of JSON, not {len(text)}.",
            code="BAD_EVENT",
        )
    return replace(
        event,
        kind=plain_text(event.kind),
        actor=plain_text(event.actor),
        at_s=float(event.at_s),
        name=plain_text(event.name),
        digest=plain_text(event.digest),
        why=plain_text(event.why),
        data=data,
    )


def _values(name: str, kind: str) -> tuple[str, ...]:
    return tuple(value for value in (name, kind) if value)


def _event(row: Row) -> Event:
    return Event(**{**dict(row), "data": json.loads(row["data"])})


def _is_unchanged(row: Row) -> bool:
    try:
        event = _event(row)
        return event_hash(event, event.previous) == event.hash
    except (TypeError, ValueError):
        return False
