"""Count what was answered over one protocol, and return the leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from towline.core.errors import TowlineError
from towline.core.inference import Response
from towline.serve.jobs import Job
from towline.serve.surroundings import Meter


class ProtocolAccount:
    """The Account of jobs (serve/jobs.py) that came over one protocol."""

    def __init__(self, meter: Meter, clock: Callable[[], float], give_back: Callable[[int], None]) -> None:
        self.meter = meter
        self._clock = clock
        self._give_back = give_back

    def one(self, job: Job, result: Response | TowlineError) -> None:
        self._give_back(1)
        self.meter.inflight -= 1
        code = "OK"
        if isinstance(result, TowlineError):
            code, result.is_counted = result.code, True
        self.meter.observe(code, self._clock() - job.admitted_s)

    def many(self, jobs: Sequence[Job]) -> None:
        self._give_back(len(jobs))
        self.meter.inflight -= len(jobs)
        now = self._clock()
        self.meter.observe_all("OK", [now - job.admitted_s for job in jobs])
