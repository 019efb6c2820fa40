"""Watch what runs in one slot: answer who is late, stop what nobody waits for, and have a worker replaced that does not stop or answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from towline.core.errors import TowlineError
from towline.serve import recovery
from towline.serve.batcher import Batcher, late
from towline.serve.crew import Crew
from towline.serve.jobs import Batch
from towline.serve.lanes import Lane
from towline.serve.router import WantedVersion
from towline.serve.surroundings import Surroundings

log = logging.getLogger("towline.serve")

# With the second between two pings, a worker that is stopped is replaced within five.
_PING_LIMIT_S = 3.0


class Watchdog:
    """Of one slot. `start` makes a task of what takes longer than a look."""

    def __init__(
        self,
        version: WantedVersion,
        around: Surroundings,
        batcher: Batcher,
        crew: Crew,
        start: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._name, self._number = version.name, version.number
        self._around = around
        self._batcher = batcher
        self._crew = crew
        self._start = start
        # Batches that run on although nobody waits for them, and since when.
        self._unwanted: dict[Batch, float] = {}
        self._pinged: set[Lane] = set()

    def tick(self) -> None:
        """Several times a second: deadlines of what waits and runs, and of runs that do not stop."""
        self._batcher.drop_late()
        for lane in self._crew:
            if not lane.is_dead:
                self._watch(lane, self._around.clock())
        running = {batch for lane in self._crew for batch in lane.running}
        self._unwanted = {batch: since for batch, since in self._unwanted.items() if batch in running}

    def _watch(self, lane: Lane, now: float) -> None:
        for batch in lane.running:
            for job in batch.jobs:
                if job.deadline <= now:
                    job.answer(late(job))
        # What was given ahead waits behind these, and is looked at when it runs.
        unwanted = {batch: self._unwanted.get(batch, now) for batch in lane.running[: lane.threads] if not batch.is_wanted}
        if unwanted.keys() - self._unwanted.keys():
            lane.terminate_runs()
        self._unwanted |= unwanted
        if any(recovery.has_overrun(now_s=now, deadline_s=batch.deadline, unwanted_since_s=since) for batch, since in unwanted.items()):
            log.warning("a run of %s:%s does not stop at its deadline; its worker is replaced", self._name, self._number)
            self._around.kill(lane.pid)

    def ping(self) -> None:
        """Every second: a worker that is stopped or stuck outside a run is replaced."""
        for lane in self._crew:
            if lane not in self._pinged and lane.pid:
                self._start(self._ping(lane))

    async def _ping(self, lane: Lane) -> None:
        self._pinged.add(lane)
        try:
            await lane.ask({"do": "ping"}, timeout_s=_PING_LIMIT_S)
        except TowlineError:
            if not lane.is_dead:
                log.warning("worker of %s:%s does not answer and is replaced", self._name, self._number)
                self._around.kill(lane.pid)
        finally:
            self._pinged.discard(lane)
