"""Count what a version's batches did, once per batch, and tell it per request as Triton does. Pure."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from typing import Protocol

from towline.serve.contract import Count, VersionStatistics
from towline.serve.jobs import Batch
from towline.serve.surroundings import Meter

_NS = 1_000_000_000
# Sizes of batches that are told apart: what clients send must not grow without end.
MAX_SIZES = 256
_admitted = attrgetter("admitted_s")


class BatchCounts:
    """Of batches that gave an answer; everything beside it is read off when somebody asks."""

    __slots__ = ("_sizes", "compute_us", "executions", "last_s", "queue_s", "requests", "rows")

    def __init__(self) -> None:
        self.last_s = 0.0
        self.rows = self.executions = self.requests = self.compute_us = 0
        self.queue_s = 0.0
        # Rows -> how many batches, and their time in microseconds.
        self._sizes: dict[int, list[int]] = {}

    def add(self, batch: Batch, spent_us: int) -> None:
        jobs, rows = batch.jobs, batch.rows
        count = len(jobs)
        self.last_s = batch.sent_s
        self.rows += rows
        self.executions += 1
        self.requests += count
        self.compute_us += spent_us * count
        self.queue_s += batch.sent_s * count - sum(map(_admitted, jobs))
        size = self._sizes.get(rows)
        if size is not None:
            size[0] += 1
            size[1] += spent_us
        elif len(self._sizes) < MAX_SIZES:
            self._sizes[rows] = [1, spent_us]

    def sizes(self) -> dict[int, Count]:
        return {rows: Count(count, spent_us * 1000) for rows, (count, spent_us) in sorted(self._sizes.items())}


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
