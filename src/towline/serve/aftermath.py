"""What becomes of the requests that a worker held when it died: run again, tried alone, kept from running, or told why not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from towline.core.errors import EngineError, Kind, TowlineError, Unavailable
from towline.serve import recovery
from towline.serve.admission import crashed
from towline.serve.batcher import Batcher
from towline.serve.jobs import Batch, Job
from towline.serve.quarantine import Quarantine
from towline.serve.recovery import Fate
from towline.serve.router import WantedVersion
from towline.serve.surroundings import Surroundings
from towline.serve.trials import Trial
from towline.serve.workers.hub import Exit


class Aftermath:
    """Of one slot. `tell` records an event of it; `may_run_again` is asked of each request; `new_trial` opens a place beside the slot."""

    def __init__(
        self,
        version: WantedVersion,
        around: Surroundings,
        batcher: Batcher,
        quarantine: Quarantine,
        *,
        tell: Callable[[str, dict[str, Any]], None],
        may_run_again: Callable[[Job], bool],
        new_trial: Callable[[], Trial],
    ) -> None:
        self._name, self._number = version.name, version.number
        self._around = around
        self._batcher = batcher
        self._quarantine = quarantine
        self._tell = tell
        self._may_run_again = may_run_again
        self._new_trial = new_trial
        # One trial at a time: a flood of inputs that crash must not become a flood of workers.
        self._trials = asyncio.Lock()

    async def settle(self, pid: int, batches: Sequence[Batch], reopening: Awaitable[bool]) -> None:
        """Decide about what ran in `batches` once it is known how the worker died. `reopening` says whether there is another to run on."""
        end = await self._around.exit_of(pid)
        self._tell("worker.died", {"pid": pid, "signal": end.signal_number, "status": end.status})
        was_alone = sum(len(batch.jobs) for batch in batches) == 1
        fates = [(job, self._judge(job, end, was_alone)) for batch in batches for job in batch.jobs if job.done is not None]
        # Before the new worker is there: what ran comes before what waited.
        self._batcher.put_back([job for job, fate in fates if fate is Fate.RETRY])
        suspects = [job for job, fate in fates if fate is Fate.SUSPECT]
        if not await reopening:
            lost = Unavailable(f"Model '{self._name}' lost its worker.", code="WORKER_DIED", retry_after_s=1.0)
            self._batcher.fail_all(lost)
            for job in suspects:
                job.answer(lost)
        elif suspects:
            await self._run_alone(suspects)

    def _judge(self, job: Job, end: Exit, was_alone: bool) -> Fate:
        """Decide, and answer at once the jobs that are not to run again."""
        job.tries += 1
        fate = recovery.fate(
            signal_number=end.signal_number,
            was_alone=was_alone,
            tries=job.tries,
            may_repeat=self._may_run_again(job),
            out_of_memory=end.out_of_memory,
        )
        if fate is Fate.QUARANTINE:
            digest = self._quarantine.add(job.request.inputs)
            self._around.meters.quarantined(self._name, self._number)
            self._tell("request.quarantined", {"signal": end.signal_number, "inputs": digest})
            job.answer(crashed(self._name))
        elif fate is Fate.OUT_OF_MEMORY:
            job.answer(EngineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY))
        elif fate is Fate.GIVE_UP:
            job.answer(self._lost(job))
        return fate

    def _lost(self, job: Job) -> TowlineError:
        if self._may_run_again(job):
            return Unavailable(f"Model '{self._name}' lost its worker {job.tries} times.", code="WORKER_DIED", retry_after_s=1.0)
        why = "its answer had begun" if job.parts else "it does not say that its requests may run twice"
        return Unavailable(f"Model '{self._name}' lost its worker, and {why}.", code="WORKER_DIED", retry_after_s=1.0)

    async def _run_alone(self, jobs: Sequence[Job]) -> None:
        """Run each job by itself in a worker of their own, while the slot's worker serves the others."""
        async with self._trials:
            trial = self._new_trial()
            try:
                for job in jobs:
                    while job.done is not None:
                        end = await trial.run(job)
                        if end is None or self._judge(job, end, True) is not Fate.RETRY:
                            break
            finally:
                trial.close()
