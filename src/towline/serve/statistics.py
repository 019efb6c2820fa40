"""Count what a version's batches did, once per batch, and tell it per request as Triton does. Pure."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from typing import Any, Protocol

from towline.serve.contract import Count, VersionStatistics
from towline.serve.jobs import Batch
from towline.serve.surroundings import Meter

_NS = 1_000_000_000
# Sizes of batches that are told apart: what clients send must not grow without end.
MAX_SIZES = 256
_admitted = attrgetter("admitted_s")


# Of one size: batches, their time in microseconds, requests, that time for each request, and the seconds these waited.
_NOTHING = (0, 0, 0, 0, 0.0)
_BATCHES, _SPENT_US, _REQUESTS, _COMPUTE_US, _QUEUE_S = range(5)


class BatchCounts:
    """Of batches that gave an answer: as little as possible per batch, everything else when somebody asks."""

    __slots__ = ("_other", "_other_rows", "_sizes", "last_s")

    def __init__(self) -> None:
        self.last_s = 0.0
        # By the rows of a batch; those beyond MAX_SIZES are counted together.
        self._sizes: dict[int, list[Any]] = {}
        self._other: list[Any] = list(_NOTHING)
        self._other_rows = 0

    def add(self, batch: Batch, spent_us: int) -> None:
        jobs = batch.jobs
        sent_s = self.last_s = batch.sent_s
        size = self._sizes.get(batch.rows) or self._another(batch.rows)
        size[0] += 1
        size[1] += spent_us
        count = len(jobs)
        if count == 1:
            size[2] += 1
            size[3] += spent_us
            size[4] += sent_s - jobs[0].admitted_s
        else:
            size[2] += count
            size[3] += spent_us * count
            size[4] += sent_s * count - sum(map(_admitted, jobs))

    def _another(self, rows: int) -> list[Any]:
        if len(self._sizes) < MAX_SIZES:
            self._sizes[rows] = list(_NOTHING)
            return self._sizes[rows]
        self._other_rows += rows
        return self._other

    def sizes(self) -> dict[int, Count]:
        return {rows: Count(size[_BATCHES], size[_SPENT_US] * 1000) for rows, size in sorted(self._sizes.items())}

    @property
    def rows(self) -> int:
        return self._other_rows + sum(rows * int(size[_BATCHES]) for rows, size in self._sizes.items())

    @property
    def executions(self) -> int:
        return int(self._total(_BATCHES))

    @property
    def requests(self) -> int:
        return int(self._total(_REQUESTS))

    @property
    def compute_us(self) -> int:
        """Each request counts the whole run of its batch."""
        return int(self._total(_COMPUTE_US))

    @property
    def queue_s(self) -> float:
        return float(self._total(_QUEUE_S))

    def _total(self, place: int) -> Any:
        return sum(size[place] for size in (*self._sizes.values(), self._other))


class Counted(Protocol):
    """A slot, as its statistics need it."""

    name: str
    number: int
    counts: BatchCounts

    @property
    def meters(self) -> Collection[Meter]: ...

    @property
    def memory_bytes(self) -> int: ...


def statistics_of(slot: Counted, *, now_s: float, wall_s: float) -> VersionStatistics:
    """`now_s` is on the clock of the slot's batches, `wall_s` the same moment in seconds since 1970."""
    counts = slot.counts
    success, success_ns, fail, fail_ns = 0, 0, 0, 0
    for meter in slot.meters:
        good = meter.codes.get("OK", 0)
        success += good
        fail += sum(meter.codes.values()) - good
        fail_ns += _ns(meter.failed_s)
        success_ns += _ns(meter.durations.total - meter.failed_s)
    queue_ns, compute_ns = _ns(counts.queue_s), counts.compute_us * 1000
    return VersionStatistics(
        slot.name,
        slot.number,
        round((wall_s - (now_s - counts.last_s)) * 1000) if counts.executions else 0,
        counts.rows,
        counts.executions,
        success=Count(success, success_ns),
        fail=Count(fail, fail_ns),
        queue=Count(counts.requests, queue_ns),
        compute=Count(counts.requests, compute_ns),
        rest=Count(counts.requests, max(0, success_ns - queue_ns - compute_ns)),
        sizes=counts.sizes(),
        memory_bytes=slot.memory_bytes,
    )


def _ns(seconds: float) -> int:
    return max(0, round(seconds * _NS))
