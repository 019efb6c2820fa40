"""Hold a latency objective by the number of rows that may share a run: additive increase, multiplicative decrease. Pure.

Source: Crankshaw et al., Clipper (NSDI 2017), section 4.3.1: AIMD finds the largest batch that meets the objective, and follows it when
the load or the machine changes.
"""

from __future__ import annotations

from bisect import insort

WINDOW_BATCHES = 20
SHARE = 0.95
INCREASE_ROWS = 2
DECREASE = 0.75


class LatencyObjective:
    """`observe` each batch; `max_rows` is how many rows the next one may have. Bounds are kept: 1 to `most_rows`."""

    def __init__(self, objective_s: float, *, most_rows: int) -> None:
        self.max_rows = most_rows
        self._objective_s = objective_s
        self._most_rows = most_rows
        # Latencies of the window, in order, and whether one of its batches was as large as it might be.
        self._seen: list[float] = []
        self._was_full = False

    def observe(self, latency_s: float, rows: int) -> bool:
        """One batch: how long its oldest request took from admission to answer, and its rows. Returns whether `max_rows` is another now."""
        insort(self._seen, latency_s)
        self._was_full = self._was_full or rows >= self.max_rows
        if len(self._seen) < WINDOW_BATCHES:
            return False
        late = self._seen[int(SHARE * (len(self._seen) - 1))] > self._objective_s
        before = self.max_rows
        if late:
            self.max_rows = max(1, int(self.max_rows * DECREASE))
        elif self._was_full:
            # Only a limit that was felt is raised: an idle model learns nothing of what it could carry.
            self.max_rows = min(self._most_rows, self.max_rows + INCREASE_ROWS)
        self._seen, self._was_full = [], False
        return self.max_rows != before
