"""Hand the parts of an answer over one by one, at the pace of whoever takes them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue

import numpy as np


class Turns:
    """The front's answers to the parts it was sent, one place per slot: given by the control thread, awaited by the thread that streams."""

    def __init__(self, slots: int) -> None:
        self._answers: list[SimpleQueue[bool]] = [SimpleQueue() for _ in range(slots)]

    def give(self, slot: int, *, wants_more: bool) -> None:
        if slot < len(self._answers):
            self._answers[slot].put(wants_more)

    def wants_more(self, slot: int) -> bool:
        """Wait for the answer to the last part."""
        return self._answers[slot].get()


def give_parts(
    parts: Generator[Sequence[np.ndarray], None, None], give: Callable[[Sequence[np.ndarray]], None], wants_more: Callable[[], bool]
) -> None:
    """Give one part after the other; the next one is made while the last is on its way, and given when that was answered.

    `wants_more` waits for the answer to the part given last, and is called once for each. When nobody wants more, or anything fails,
    `parts` is closed, so that a user's `finally` runs.
    """
    is_owed = False
    try:
        for part in parts:
            if is_owed:
                is_owed = False
                if not wants_more():
                    return
            give(part)
            is_owed = True
    finally:
        try:
            # What follows may be written where the last part still lies.
            if is_owed:
                wants_more()
        finally:
            parts.close()
