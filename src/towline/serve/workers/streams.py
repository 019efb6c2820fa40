"""Answers in parts, in turns: a worker sends the next part once the last was answered, and ends when nobody wants more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from towline.core.errors import TowlineError
from towline.core.frames import FrameReader
from towline.serve.jobs import Batch
from towline.serve.workers.faults import UNREADABLE, unread

# Takes the arrays of a part, which are only lent until it returns, and what asks for the next one.
PassOn = Callable[[Batch, dict[str, Any], Callable[[], None]], None]


class _Turn(NamedTuple):
    """One part that the worker has sent and waits to be answered on."""

    number: int
    batch: Batch


class Streams:
    """Of one worker. `say` sends it a message."""

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._turns: dict[int, _Turn] = {}
        self._parts = 0

    def is_owed(self, slot: int) -> bool:
        """The last part of this slot was not answered yet."""
        return slot in self._turns

    def take_part(self, slot: int, batch: Batch, reader: FrameReader, pass_on: PassOn) -> None:
        self._parts += 1
        turn = self._turns[slot] = _Turn(self._parts, batch)
        try:
            part = reader.read()
        except UNREADABLE:
            part = None
        try:
            if part is None:
                batch.fail(unread())
            else:
                pass_on(batch, part, partial(self._answer, slot, turn))
        except Exception:
            # A protocol failed over it: nobody would ever ask for the next part.
            batch.fail(TowlineError("The server failed to pass on a part of the answer; its log says why."))
            raise
        finally:
            if not batch.is_wanted:
                self._answer(slot, turn)

    def answer(self, slot: int) -> None:
        """Ask for the next part, or end the stream when nobody wants more."""
        self._answer(slot, self._turns[slot])

    def _answer(self, slot: int, turn: _Turn) -> None:
        """Once for each part, whoever asks first."""
        if self._turns.get(slot) is turn:
            del self._turns[slot]
            self._say({"do": "more" if turn.batch.is_wanted else "stop", "slot": slot})
