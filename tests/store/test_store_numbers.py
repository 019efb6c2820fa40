"""Versions that bring their number along, as those of a watched folder do."""

from __future__ import annotations

import pytest
from store_making import complaints, fill

from towline.core.errors import Conflict, InvalidRequest
from towline.core.refs import Ref
from towline.core.version import Version
from towline.store.sqlite import SqliteStore


def publish(store: SqliteStore, seed: int, number: int | None = None) -> Version:
    with store.stage() as folder:
        fill(folder, seed)
        return store.publish(folder, "digits", actor="tester", number=number)


def test_a_version_keeps_the_number_it_brings_and_the_next_one_follows_the_highest(store: SqliteStore) -> None:
    assert publish(store, 1, number=7).number == 7
    assert publish(store, 2, number=3).number == 3
    assert publish(store, 3).number == 8
    assert store.numbers("digits") == (3, 7, 8)


def test_a_number_that_another_content_has_is_refused_and_nothing_changes(store: SqliteStore) -> None:
    first = publish(store, 1, number=7)

    with pytest.raises(Conflict, match="digits:7 exists with another content"):
        publish(store, 2, number=7)

    assert store.version(Ref("digits")) == first
    assert store.numbers("digits") == (7,)
    assert complaints(store) == []


def test_the_same_content_again_is_the_version_that_exists_whatever_number_it_brings(store: SqliteStore) -> None:
    first = publish(store, 1, number=7)

    assert publish(store, 1, number=7) == first
    assert publish(store, 1, number=9) == first
    assert publish(store, 2).number == 8


@pytest.mark.parametrize("number", [0, -1, 2**63])
def test_a_number_no_version_may_have_is_refused(store: SqliteStore, number: int) -> None:
    with pytest.raises(InvalidRequest, match="number"):
        publish(store, 1, number=number)
