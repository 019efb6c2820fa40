"""Count what was answered over one protocol, and return the leases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from towline.core.errors import TowlineError
from towline.core.inference import Response
from towline.serve.jobs import Job
from towline.serve.surroundings import Meter


class Leases:
    """How many requests a slot owes an answer. Who waits for the last of them sets `awaited`."""

    __slots__ = ("awaited", "count")

    def __init__(self) -> None:
        self.count = 0
        self.awaited: asyncio.Event | None = None

    async def returned(self) -> None:
        """All of them."""
        while self.count:
            self.awaited = asyncio.Event()
            await self.awaited.wait()


class ProtocolAccount:
    """The Account of jobs (serve/jobs.py) that came over one protocol."""

    __slots__ = ("_clock", "_leases", "meter")

    def __init__(self, meter: Meter, clock: Callable[[], float], leases: Leases) -> None:
        self.meter = meter
        self._clock = clock
        self._leases = leases

    def one(self, job: Job, result: Response | TowlineError) -> None:
        code = "OK"
        if isinstance(result, TowlineError):
            code, result.is_counted = result.code, True
        self.many((job,), code)

    def many(self, jobs: Sequence[Job], code: str = "OK") -> None:
        number, meter, leases, now = len(jobs), self.meter, self._leases, self._clock()
        meter.inflight -= number
        meter.observe_all(code, [now - job.admitted_s for job in jobs])
        leases.count -= number
        if not leases.count and leases.awaited is not None:
            leases.awaited.set()
