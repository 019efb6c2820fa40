"""The worker's side of an answer in parts: given at the pace of whoever takes them, and closed when nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from towline.engines.streaming import Turns, give_parts


class Source:
    """Counts the parts it made, and knows whether it was closed."""

    def __init__(self, parts: int, fault: Exception | None = None) -> None:
        self.made = 0
        self.is_closed = False
        self._parts = parts
        self._fault = fault

        # Held, so that it is closed by who is to close it and not by being forgotten.
        self.generator = self._make()

    def parts(self) -> Iterator[Any]:
        return self.generator

    def _make(self) -> Iterator[Any]:
        try:
            for number in range(self._parts):
                self.made += 1
                yield [np.array([number])]
            if self._fault is not None:
                raise self._fault
        finally:
            self.is_closed = True


def play(source: Source, replies: list[bool]) -> tuple[list[int], int]:
    """The parts that were given, and how many replies were asked for."""
    given: list[int] = []
    left = list(replies)
    give_parts(source.parts(), lambda part: given.append(int(part[0][0])), lambda: left.pop(0))  # type: ignore[arg-type]
    return given, len(replies) - len(left)


def test_every_part_is_given_once_and_every_reply_is_heard() -> None:
    source = Source(3)

    assert play(source, [True, True, True]) == ([0, 1, 2], 3)
    assert source.is_closed


def test_when_nobody_wants_more_one_part_at_most_was_made_in_vain() -> None:
    source = Source(1000)

    assert play(source, [True, False]) == ([0, 1], 2)
    assert (source.made, source.is_closed) == (3, True)


def test_a_reply_that_ends_the_stream_is_heard_also_after_the_last_part() -> None:
    assert play(Source(2), [True, False]) == ([0, 1], 2)


def test_a_fault_is_told_only_when_the_last_part_was_answered() -> None:
    source = Source(2, ValueError("mine"))
    replies = [True, True]

    with pytest.raises(ValueError, match="mine"):
        give_parts(source.parts(), lambda part: None, lambda: replies.pop(0))  # type: ignore[arg-type]

    assert replies == []


def test_a_part_that_cannot_be_given_closes_the_stream_and_owes_no_reply() -> None:
    source = Source(5)
    replies = [True]

    def give(part: Any) -> None:
        if part[0][0] == 1:
            raise OverflowError

    with pytest.raises(OverflowError):
        give_parts(source.parts(), give, lambda: replies.pop(0))  # type: ignore[arg-type]

    assert (replies, source.made, source.is_closed) == ([], 2, True)


def test_replies_are_kept_by_slot_until_somebody_waits_for_them() -> None:
    turns = Turns(2)
    turns.give(1, wants_more=False)
    turns.give(0, wants_more=True)
    turns.give(7, wants_more=True)

    assert (turns.wants_more(0), turns.wants_more(1)) == (True, False)
