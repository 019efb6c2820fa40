"""Run requests under suspicion one at a time, in a worker of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from towline.core.errors import TowlineError, Unavailable
from towline.core.manifest import Manifest
from towline.serve.batcher import late
from towline.serve.jobs import Batch, Expected, Job
from towline.serve.lanes import Lane
from towline.serve.recovery import TERMINATE_GRACE_S
from towline.serve.router import WantedVersion
from towline.serve.surroundings import Surroundings
from towline.serve.workers.hub import Exit


class Trial:
    """A lane beside the slot's own, in which suspects run one at a time. `expected` are the outputs of each signature (serve/jobs.py)."""

    def __init__(self, version: WantedVersion, manifest: Manifest, expected: Sequence[Expected], around: Surroundings) -> None:
        self._version = version
        self._manifest = manifest
        self._expected = expected
        self._around = around
        self._lane: Lane | None = None

    async def run(self, job: Job) -> Exit | None:
        """Run one job; None when it was answered, or how its worker ended."""
        try:
            # Killed between two jobs, or in the moment it was ready, it is as good as none.
            while self._lane is None or self._lane.is_dead:
                self._lane = await self._around.lanes.open(self._version, self._manifest, _tell_nobody)
        except TowlineError as error:
            job.answer(Unavailable(error.message, code="WORKER_DIED", retry_after_s=1.0))
            return None
        lane = self._lane
        ended: asyncio.Future[bool] = self._around.loop.create_future()

        def on_batch(batch: Batch, result: dict[str, Any] | TowlineError, spent_us: int) -> None:
            if isinstance(result, dict):
                batch.finish(result, self._expected, self._version.name, self._version.number)
            else:
                batch.fail(result)
            if not ended.done():
                ended.set_result(True)

        def on_death(lane: Lane) -> None:
            if not ended.done():
                ended.set_result(False)

        def on_part(batch: Batch, outputs: dict[str, Any], more: Callable[[], None]) -> None:
            batch.pass_on(outputs, self._expected, self._version.name, self._version.number, more)

        lane.on_batch = on_batch
        lane.on_part = on_part
        lane.on_death = on_death
        lane.run(Batch([job], job.request.rows, self._around.clock()))
        if await self._finished(lane, job, ended):
            return None
        self._lane = None
        end: Exit = await self._around.exit_of(lane.pid)
        return end

    async def _finished(self, lane: Lane, job: Job, ended: asyncio.Future[bool]) -> bool:
        """True when the lane answered. One that is late is answered, asked to stop, and killed if it does not."""
        left_s = max(job.deadline - self._around.clock(), 0.0)
        for wait_s, then in ((left_s, lane.terminate_runs), (TERMINATE_GRACE_S, lambda: self._around.kill(lane.pid))):
            try:
                return await asyncio.wait_for(asyncio.shield(ended), wait_s)
            except TimeoutError:
                job.answer(late(job))
                then()
        return await ended

    def close(self) -> None:
        if self._lane is not None:
            self._lane.on_death = lambda lane: None
            self._around.lanes.end(self._lane)


def _tell_nobody(state: str) -> None:
    """A trial's lane has no state that anyone waits for."""
