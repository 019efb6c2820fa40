"""Give the requests of a batch that ran what it came to: each its own rows, another run, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from towline.core.errors import Kind, TowlineError, Unavailable
from towline.core.manifest import Manifest
from towline.serve.batcher import Batcher, late
from towline.serve.jobs import Batch, Job, expected_outputs
from towline.serve.objective import LatencyObjective
from towline.serve.router import WantedVersion
from towline.serve.statistics import BatchCounts
from towline.serve.surroundings import BatchMeter


class Delivery:
    """Of one slot. `deliver` and `pass_on` are what its lanes call with a batch that ended, or with a part of one."""

    def __init__(self, version: WantedVersion, manifest: Manifest, batcher: Batcher, meter: BatchMeter, clock: Callable[[], float]) -> None:
        self.counts = BatchCounts()
        self.expected = expected_outputs(manifest)
        # What holds the rows of a run down while it is missed; None where nobody asked for one.
        self.objective: LatencyObjective | None = None
        self._name, self._number = version.name, version.number
        self._batcher = batcher
        self._meter = meter
        self._clock = clock
        # Code of a user's may do more than answer: only he can say that doing it twice does no harm.
        self._may_repeat = manifest.handler is None or manifest.handler.idempotent

    def deliver(self, batch: Batch, result: dict[str, Any] | TowlineError, spent_us: int) -> None:
        self._meter.observe(batch.rows, batch.sent_s - batch.jobs[0].admitted_s, spent_us / 1e6)
        if self.objective is not None and self.objective.observe(self._clock() - batch.jobs[0].admitted_s, batch.rows):
            self._batcher.limit(max_rows=self.objective.max_rows)
        try:
            if isinstance(result, dict):
                self.counts.add(batch, spent_us)
                batch.finish(result, self.expected, self._name, self._number)
            elif result.kind is not Kind.DEADLINE and len(batch.jobs) == 1:
                batch.fail(result)
            elif result.kind is Kind.INVALID or all(map(self.may_run_again, batch.jobs)):
                # Who refuses a request has not carried it out.
                self._repeat(batch, result)
            else:
                self._give_up(batch, result)
        finally:
            if self._batcher.queue:
                self._batcher.flush_after_reading()

    def pass_on(self, batch: Batch, outputs: dict[str, Any], more: Callable[[], None]) -> None:
        batch.pass_on(outputs, self.expected, self._name, self._number, more)

    def may_run_again(self, job: Job) -> bool:
        return self._may_repeat and not job.parts

    def _give_up(self, batch: Batch, error: TowlineError) -> None:
        """What must not run twice is told why; who is not late was stopped while he waited."""
        now = self._clock()
        stopped = Unavailable(f"Model '{self._name}' was stopped while it answered.", code="RUN_STOPPED", retry_after_s=1.0)
        for job in batch.jobs:
            job.answer(error if error.kind is not Kind.DEADLINE else late(job) if job.deadline <= now else stopped)

    def _repeat(self, batch: Batch, error: TowlineError) -> None:
        """Run the jobs of a refused batch again, each by itself: one bad item must not spoil its neighbours."""
        now = self._clock()
        again = []
        for job in batch.jobs:
            if error.kind is Kind.DEADLINE and job.deadline <= now:
                job.answer(late(job))
            elif job.done is not None:
                job.group = None
                again.append(job)
        self._batcher.put_back(again)
