"""Natural batching: what arrived while the workers were busy, or in this turn of the event loop, is the next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from towline.core.errors import DeadlineExceeded, TowlineError
from towline.serve.backlog import Backlog
from towline.serve.jobs import Batch, Job
from towline.serve.ranking import level, rank_s


class Lane(Protocol):
    """Where batches run: a worker, or the engine in this process."""

    merges: bool
    threads: int

    @property
    def idle(self) -> int:
        """How many more batches it could run at once."""
        ...

    def run(self, batch: Batch) -> None: ...


class Batcher:
    """The queue of one slot. Bounded by its caller (admission). Runs on the event loop; nothing here blocks or waits."""

    def __init__(self, *, max_rows: int, max_bytes: int, clock: Callable[[], float], loop: asyncio.AbstractEventLoop) -> None:
        self.lane: Lane | None = None
        self.waiting_bytes = 0
        self.queue: deque[Job] = deque()
        self.max_rows = max_rows
        # How long a row may be made: only a batcher that pads asks (padded.py).
        self.pads_up_to = 0
        self.backlog = Backlog()
        self._max_bytes = max_bytes
        self._clock = clock
        self._loop = loop
        self._scheduled = False
        # Whether some job of the queue has a priority: only then is its order more than the order of arrival.
        self._is_ranked = False

    def limit(self, *, max_rows: int) -> None:
        self.max_rows = max_rows

    def __len__(self) -> int:
        return len(self.queue)

    def put(self, job: Job) -> None:
        if job.request.priority or self._is_ranked:
            self._insert(job)
        else:
            self.queue.append(job)
        self.waiting_bytes += job.nbytes
        if not self._scheduled and self.lane is not None and self.lane.idle:
            # Not at once: more requests may arrive in this turn of the loop, and they share the run.
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def _insert(self, job: Job) -> None:
        """Behind all that go before it, which are nearly always all there are."""
        queue = self.queue
        self._is_ranked = bool(queue) or job.request.priority != 0
        mine = _rank_s(job)
        place = len(queue)
        while place and _rank_s(queue[place - 1]) > mine:
            place -= 1
        queue.insert(place, job)

    def wait_s(self, job: Job) -> float:
        """How long the answer to a job that is not in the queue yet would take: 0 when nobody waits, or nobody had to lately."""
        queue = self.queue
        if not queue or not self.backlog.per_job_s:
            return 0.0
        mine = _rank_s(job)
        before = sum(1 for other in queue if _rank_s(other) <= mine) if job.request.priority or self._is_ranked else len(queue)
        return self.backlog.wait_s(before)

    def last_below(self, priority: int) -> Job | None:
        """The job that waits last of those with a lower priority than this one, taken out of the queue: it gives way."""
        for place in range(len(self.queue) - 1, -1, -1):
            job = self.queue[place]
            if job.done is not None and level(job.request.priority) > level(priority):
                del self.queue[place]
                self.waiting_bytes -= job.nbytes
                return job
        return None

    def put_back(self, jobs: list[Job]) -> None:
        """Jobs that must run again go first, in their old order."""
        self.queue.extendleft(reversed(jobs))
        self.waiting_bytes += sum(job.nbytes for job in jobs)
        # Not at once: of a batch that is just being told of, the worker holds the memory until it has been told.
        self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what waits to whoever is idle; called when something arrives and when a batch ends."""
        self._scheduled = False
        lane, ran, last = self.lane, 0, 1
        while self.queue and lane is not None and (idle := lane.idle) > 0:
            batch = self._take(-(-len(self.queue) // idle) if lane.merges else 1)
            if batch is not None:
                last = len(batch.jobs)
                ran += last
                lane.run(batch)
        if self.queue and lane is not None:
            self.backlog.stays(self._clock(), ran, lane.threads * last)
        elif self.backlog.is_known:
            self.backlog.is_gone()

    def flush_after_reading(self) -> None:
        """When a batch has ended and others wait: the loop looks once for what has arrived, then all that waits goes.

        Without that look clients split into two halves that take turns, each batch half as large (measured: 8 clients, 1.4x the CPU).
        """
        self._loop.call_soon(self._loop.call_soon, self.flush)

    def drop_late(self) -> None:
        """Answer those that waited too long, and let go of all that are answered; called a few times a second."""
        now = self._clock()
        # Picked first: an answer may bring the same client's next request, which is put into the queue at once.
        for job in [job for job in self.queue if job.deadline <= now]:
            job.answer(late(job))
        wanted = [job for job in self.queue if job.done is not None]
        if len(wanted) < len(self.queue):
            self.queue.clear()
            self.queue.extend(wanted)
            self.waiting_bytes = sum(job.nbytes for job in wanted)

    def fail_all(self, error: TowlineError) -> None:
        while self.queue:
            self.queue.popleft().answer(error)
        self.waiting_bytes = 0

    def _take(self, limit: int) -> Batch | None:
        """The next batch: at most `limit` jobs of one group. Jobs nobody waits for any more are dropped, not run."""
        jobs: list[Job] = []
        rows = size = 0
        group: Any = None
        now = self._clock()
        queue, hopeless_s = self.queue, now + self.backlog.run_s
        while queue and limit:
            job = queue[0]
            # Among others, one that could not be answered in time any more would only take their time; the last of all is tried.
            if job.done is None or (job.deadline <= hopeless_s and (job.deadline <= now or len(queue) > 1)):
                queue.popleft()
                self.waiting_bytes -= job.nbytes
                job.answer(late(job))
                continue
            more = rows + job.request.rows
            if jobs and (group is None or job.group != group or more > self.max_rows or size + job.nbytes > self._max_bytes):
                break
            queue.popleft()
            jobs.append(job)
            group, rows = job.group, more
            size += job.nbytes
            limit -= 1
        self.waiting_bytes -= size
        return Batch(jobs, rows, now) if jobs else None


def _rank_s(job: Job) -> float:
    return rank_s(job.admitted_s, job.request.priority)


def late(job: Job) -> DeadlineExceeded:
    waited_ms = (job.deadline - job.admitted_s) * 1000
    return DeadlineExceeded(
        f"No answer within the {waited_ms:.0f} ms this request could wait.", hint="Allow more time, or send less at once."
    )
