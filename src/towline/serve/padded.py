"""Batches of a version that was shown to bear padding: who waits for a run of his own length no longer has to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from towline.core.errors import EngineError
from towline.core.inference import Response
from towline.core.padding import joined, own_part
from towline.serve.batcher import Batcher, late
from towline.serve.jobs import Batch, Expected, Job, excuse, lacking, misfit, selected
from towline.serve.padding import Group, Mix, Plan, cut_lengths

log = logging.getLogger("towline.serve")

# How many of those that do not fit are passed over for one run: a long queue is not searched to its end.
MOST_PASSED = 128


class PaddedBatcher(Batcher):
    """Beside the oldest goes who fits its length, not only who stands next to it. `observe` hears the share of padding in each run."""

    def __init__(
        self,
        plan: Plan,
        observe: Callable[[float], None],
        *,
        max_rows: int,
        max_bytes: int,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(max_rows=max_rows, max_bytes=max_bytes, clock=clock, loop=loop)
        self._plan = plan
        self._observe = observe

    def _take(self, limit: int) -> Batch | None:
        """As of every batcher; who is passed over keeps his place, and the oldest always goes."""
        now, queue = self._clock(), self.queue
        jobs: list[Job] = []
        passed: list[Job] = []
        hopeless: list[Job] = []
        mix: Mix | None = None
        while queue and len(jobs) < limit and len(passed) < MOST_PASSED:
            job = queue.popleft()
            is_last = not (queue or passed)
            if job.done is None or job.deadline <= (now if is_last else now + self.backlog.run_s):
                hopeless.append(job)
            elif not jobs:
                jobs.append(job)
                if job.group is None:
                    break
                mix = Mix(self._plan, job.group, job.request.rows, job.nbytes, up_to=self.pads_up_to)
            elif mix is not None and job.group is not None and self._takes(mix, job):
                jobs.append(job)
            else:
                passed.append(job)
        queue.extendleft(reversed(passed))
        for job in (*hopeless, *jobs):
            self.waiting_bytes -= job.nbytes
        # Last: an answer may bring the same client's next request, which is put into the queue at once.
        for job in hopeless:
            job.answer(late(job))
        return self._batch(jobs, mix, now) if jobs else None

    def _takes(self, mix: Mix, job: Job) -> bool:
        return mix.take(job.group, job.request.rows, job.nbytes, max_rows=self.max_rows, max_bytes=self._max_bytes)

    def _batch(self, jobs: list[Job], mix: Mix | None, now: float) -> Batch:
        if mix is None:
            return Batch(jobs, jobs[0].request.rows, now)
        self._observe(mix.padding_share)
        return PaddedBatch(jobs, mix.rows, now, self._plan, mix.group) if mix.is_padded else Batch(jobs, mix.rows, now)


class PaddedBatch(Batch, gc=False, eq=False):
    """Jobs of unlike length that run as one: `group` is what their shapes are padded to."""

    plan: Plan
    group: Group

    @property
    def layout(self) -> Any:
        return self.rows, self.group

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """All of them, put together already."""
        values, whole = self.plan.values, {}
        for name, tail in zip(self.jobs[0].request.inputs, self.group, strict=True):
            parts = [job.request.inputs[name] for job in self.jobs]
            whole[name] = joined(parts, tail, values[name]) if name in values else np.concatenate(parts)
        return [whole]

    def finish(self, outputs: dict[str, Any], expected: Sequence[Expected], name: str, number: int) -> None:
        """Give each job what it would have got alone. Believed no more than any worker's answer."""
        problem = misfit(outputs, expected[0], self.rows) or self._wrong_length(outputs)
        if problem:
            self.fail(EngineError(problem, code="BAD_OUTPUT"))
            return
        start = 0
        for job in self.jobs:
            rows, lengths = slice(start, start + job.request.rows), self.plan.shape(job.group).lengths
            start = rows.stop
            if lack := lacking(outputs, job.request.outputs):
                job.answer(lack)
            done = job.done
            if done is None:
                continue
            own = {name: own_part(array, rows, cut_lengths(self.plan, name, lengths)) for name, array in outputs.items()}
            try:
                job.answer(Response(selected(own, job.request.outputs), name, number))
            except Exception:
                excuse(done)

    def _wrong_length(self, outputs: dict[str, Any]) -> str:
        common = self.plan.shape(self.group).lengths
        for name, array in outputs.items():
            for axis, length in cut_lengths(self.plan, name, common).items():
                if array.ndim <= axis or array.shape[axis] != length:
                    return f"Output '{name}' is not {length} long, as the rows of its batch are."
        return ""
