"""Counters of one label set: what a request or a batch adds to, in two additions and a number in a list. Pure.

All of it belongs to one thread (the front's event loop): nothing here locks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

# Where codes beyond the bound, and label sets beyond theirs, are counted together.
OTHER = "_other"
MAX_CODES = 64
# Values that a histogram keeps before it sorts them into its buckets.
MAX_NOTED = 128

DURATION_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
PADDING_BOUNDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Histogram:
    """Counts per bucket; `bounds` are inclusive upper bounds in ascending order, the last bucket holds what is above them.

    Values are noted as they come, and sorted into buckets many at a time: when somebody asks, or MAX_NOTED are there.
    """

    __slots__ = ("_counts", "_total", "bounds", "noted")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        # For those who add to it by themselves, and `sort` it then.
        self.noted: list[float] = []
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    @property
    def counts(self) -> list[int]:
        self.sort()
        return self._counts

    @property
    def total(self) -> float:
        self.sort()
        return self._total

    def observe(self, value: float) -> None:
        self.observe_all((value,))

    def observe_all(self, values: Iterable[float]) -> None:
        self.noted += values
        if len(self.noted) >= MAX_NOTED:
            self.sort()

    def add(self, other: Histogram) -> None:
        """All that another of the same bounds has seen."""
        self._counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self._total += other.total

    def sort(self) -> None:
        """Into buckets: of sorted values each bound is looked up once."""
        noted, before = sorted(self.noted), 0
        if not noted:
            return
        self.noted.clear()
        for place, bound in enumerate(self.bounds):
            upto = bisect_right(noted, bound, before)
            self._counts[place] += upto - before
            before = upto
        self._counts[-1] += len(noted) - before
        self._total += sum(noted)


class RequestMetrics:
    """Requests of one (model, version, track, protocol). `inflight` is the caller's to raise and lower."""

    __slots__ = ("codes", "durations", "failed_s", "inflight", "labels")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.codes: dict[str, int] = {}
        self.durations = Histogram(DURATION_BOUNDS_S)
        # The part of the durations that ended in another code than OK.
        self.failed_s = 0.0
        self.inflight = 0

    def observe(self, code: str, duration_s: float) -> None:
        """One answered request. `code` is the protocol's own status ("200", "NOT_FOUND"), `duration_s` from first byte to answer."""
        self.observe_all(code, (duration_s,))

    def observe_all(self, code: str, durations_s: Sequence[float]) -> None:
        """Several requests that were answered at once."""
        noted = self.durations.noted
        noted += durations_s
        if len(noted) >= MAX_NOTED:
            self.durations.sort()
        if code == "OK" and code in self.codes:
            self.codes[code] += len(durations_s)
            return
        if code != "OK":
            self.failed_s += sum(durations_s)
        self._count(code, len(durations_s))

    def count(self, code: str) -> None:
        """One refused before there was anything to measure."""
        self._count(code, 1)

    def _count(self, code: str, number: int) -> None:
        try:
            self.codes[code] += number
        except KeyError:
            # A status nobody foresaw may not become a series without end.
            code = code if len(self.codes) < MAX_CODES else OTHER
            self.codes[code] = self.codes.get(code, 0) + number


class BatchMetrics:
    """Batches of one (model, version, track)."""

    __slots__ = ("compute", "labels", "padding", "queue", "rows")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.queue = Histogram(DURATION_BOUNDS_S)
        self.compute = Histogram(DURATION_BOUNDS_S)
        self.rows = Histogram(BATCH_BOUNDS)
        # Of a version that is never padded there is nothing to show.
        self.padding: Histogram | None = None

    def observe(self, rows: int, queue_s: float, compute_s: float) -> None:
        """One batch that ran: how many rows, how long its oldest request waited, how long the engine took (seconds)."""
        noted = self.rows.noted
        noted.append(rows)
        self.queue.noted.append(queue_s)
        self.compute.noted.append(compute_s)
        if len(noted) >= MAX_NOTED:
            for histogram in (self.rows, self.queue, self.compute):
                histogram.sort()

    def observe_padding(self, share: float) -> None:
        """One batch that was made of rows that may be padded: which part of it is padding, from 0 to 1."""
        if self.padding is None:
            self.padding = Histogram(PADDING_BOUNDS)
        self.padding.observe(share)


class Value:
    """One number of one (model, version)."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.value = 0
