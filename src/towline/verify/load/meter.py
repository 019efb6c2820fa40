"""Keep what happened to requests, and cut it into windows by the clock."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable

from towline.verify.load.job import NANOSECONDS, Window

MAX_KINDS = 64
OTHER = "other"


class Meter:
    """Counts one process's requests. What happens before `begin_ns` is warm-up and forgotten.

    `tell` gets each window as it ends; `waiting_since` says when the requests not answered yet began, or were due.
    """

    def __init__(self, begin_ns: int, window_ns: int, tell: Callable[[Window], None], waiting_since: Callable[[], Iterable[int]]) -> None:
        self.next_cut_ns = begin_ns
        self._window_ns = window_ns
        self._tell = tell
        self._waiting_since = waiting_since
        self._is_warm = False
        self._open(time.monotonic_ns())

    def _open(self, now_ns: int) -> None:
        self._began_ns = now_ns
        self._cpu_s, self._starved_s = time.process_time(), starved_s()
        self._errors: dict[str, int] = {}
        self._latencies = array(NANOSECONDS)
        # Bound once per window: what the loop calls for each answer.
        self.answered: Callable[[int], None] = self._latencies.append

    def failed(self, kind: str) -> None:
        kind = kind if kind in self._errors or len(self._errors) < MAX_KINDS else OTHER
        self._errors[kind] = self._errors.get(kind, 0) + 1

    def cut(self, now_ns: int) -> None:
        """End a window. To be called when `next_cut_ns` has passed; a late call makes one long window, not several."""
        if self._is_warm:
            self._tell(self._window(now_ns))
        self._is_warm = True
        self.next_cut_ns += self._window_ns * max(1, -(-(now_ns + 1 - self.next_cut_ns) // self._window_ns))
        self._open(now_ns)

    def _window(self, now_ns: int) -> Window:
        cpu_s, starved = time.process_time() - self._cpu_s, starved_s() - self._starved_s
        seconds = max((now_ns - self._began_ns) / 1e9, 1e-9)
        waiting = array(NANOSECONDS, (now_ns - since_ns for since_ns in self._waiting_since()))
        busiest = min(1.0, (cpu_s + starved) / seconds)
        return Window(self._began_ns / 1e9, now_ns / 1e9, self._latencies, waiting, self._errors, cpu_s, starved, busiest)


def starved_s() -> float:
    """Seconds this thread was ready to run and no processor was free; 0 where the kernel does not say."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
