"""Time comes in by argument, so that a test can own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never go back; for deadlines and durations."""
        ...

    def time(self) -> float:
        """Seconds since 1970; for people to read, never for arithmetic."""
        ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()
