"""One address may hold so many connections, and one that is closed makes room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wire import Wires

from raw import request


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires(max_connections_per_peer=2)
    yield made
    made.close()


def test_an_address_is_told_when_it_has_too_many_and_one_that_leaves_makes_room(wires: Wires) -> None:
    first, second, third = wires.wire(), wires.wire(), wires.wire()
    assert third.statuses() == [503]
    third.protocol.connection_lost(None)
    first.protocol.connection_lost(None)

    fourth = wires.wire()
    for wire in (second, fourth):
        wire.send(request("GET", "/echo"))
        assert wire.statuses() == [200]


def test_nothing_is_kept_of_those_who_left(wires: Wires) -> None:
    for _ in range(10):
        wires.wire().protocol.connection_lost(None)
    assert wires.gate._peers == {}


def test_without_the_setting_nobody_counts() -> None:
    wires = Wires()
    assert [wires.wire().statuses() for _ in range(100)] == [[]] * 100
    assert wires.gate._peers == {}
    wires.close()
