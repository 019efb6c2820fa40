"""Who of those who wait goes first. Pure.

A request's priority is Triton's: 1 is the highest, 0 stands for the default. Each level is worth so many seconds of waiting: who waits long
enough overtakes whoever comes later with a higher priority, so that nobody starves.
"""

from __future__ import annotations

HIGHEST, DEFAULT, LOWEST = 1, 5, 9
LEVEL_S = 0.5


def level(priority: int) -> int:
    """The level of a request's priority: 0 is the default one, and all beyond the lowest are the lowest."""
    return DEFAULT if priority == 0 else min(priority, LOWEST)


def rank_s(admitted_s: float, priority: int) -> float:
    """Lower goes first. For the default it is the time of arrival, so that without priorities the queue is a queue."""
    return admitted_s + (level(priority) - DEFAULT) * LEVEL_S
