"""A request of more rows than one run takes: run in parts, answered as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.serve.jobs import Job


class Split:
    """The parts of one admitted job, in the order of its rows. The first refusal is the whole request's, and the others are given up."""

    def __init__(self, whole: Job, max_rows: int) -> None:
        self._whole = whole
        requests = list(_parts(whole.request, max_rows))
        self._outputs: list[dict[str, Any] | None] = [None] * len(requests)
        self._left = len(requests)
        self.jobs = [self._job(place, request) for place, request in enumerate(requests)]

    def abandon(self) -> None:
        """The client has gone."""
        self._whole.abandon()
        for job in self.jobs:
            job.abandon()

    def _job(self, place: int, request: Request) -> Job:
        whole = self._whole

        def done(result: Response | TowlineError) -> None:
            self._part_is_done(place, result)

        nbytes = whole.nbytes * request.rows // whole.request.rows
        return Job(request, done, nbytes, whole.admitted_s, whole.deadline, whole.group, _UNCOUNTED)

    def _part_is_done(self, place: int, result: Response | TowlineError) -> None:
        if isinstance(result, TowlineError):
            self._whole.answer(result)
            for job in self.jobs:
                job.abandon()
            return
        # Copied: the arrays are lent until this returns, and other parts run meanwhile.
        self._outputs[place] = {name: np.array(array) for name, array in result.outputs.items()}
        self._left -= 1
        if not self._left:
            self._whole.answer(Response(_joined(self._outputs), result.name, result.number))


def _parts(request: Request, max_rows: int) -> Sequence[Request]:
    starts = range(0, request.rows, max_rows)
    ends = [min(start + max_rows, request.rows) for start in starts]
    return [
        msgspec.structs.replace(request, rows=end - start, inputs={name: array[start:end] for name, array in request.inputs.items()})
        for start, end in zip(starts, ends, strict=True)
    ]


def _joined(outputs: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    parts = [part for part in outputs if part is not None]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Uncounted:
    """A request is counted once, by the job that was split."""

    def one(self, job: Job, result: Response | TowlineError) -> None: ...

    def many(self, jobs: Sequence[Job]) -> None: ...


_UNCOUNTED = _Uncounted()
