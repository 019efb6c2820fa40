"""One admitted request on its way through a queue and a batch, and the batch it travels in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from towline.core import dtypes
from towline.core.errors import EngineError, TowlineError
from towline.core.inference import Merged, Request, Response
from towline.core.manifest import Manifest
from towline.core.refs import clip
from towline.serve.contract import Done, OnPart

log = logging.getLogger("towline.serve")

# Output name -> numpy dtype.
Expected = Mapping[str, "np.dtype[Any]"]


class Account(Protocol):
    """Where answered jobs are counted."""

    def one(self, job: Job, result: Response | TowlineError) -> None: ...

    def many(self, jobs: Sequence[Job]) -> None:
        """All were answered by the model."""
        ...


class Job(msgspec.Struct, gc=False, eq=False):
    """A request until it is answered. Answered once: whoever comes second finds `done` gone.

    Only jobs of one `group` may share a batch: their trailing dims are equal. `deadline` and `admitted_s` are on the monotonic clock.
    """

    request: Request
    done: Done | None
    nbytes: int
    admitted_s: float
    deadline: float
    group: Any
    account: Account
    tries: int = 0
    timer: asyncio.TimerHandle | None = None
    # Place of its signature in Manifest.signature_names; only jobs of one signature share a batch.
    signature: int = 0
    # Takes the answer in parts, of which so many were passed on.
    on_part: OnPart | None = None
    parts: int = 0

    def answer(self, result: Response | TowlineError) -> None:
        done = self.done
        if done is None:
            return
        self.done = None
        if self.timer is not None:
            self.timer.cancel()
        self.account.one(self, result)
        done(result)

    def abandon(self) -> None:
        """The client has gone: nobody is to be answered."""
        if self.done is not None:
            self.done = _nobody
            self.answer(TowlineError("The client went away.", code="CANCELLED"))


def _nobody(result: Response | TowlineError) -> None:
    """Stands in for a client that has gone."""


class Batch(msgspec.Struct, gc=False, eq=False):
    """Jobs that run as one."""

    jobs: list[Job]
    rows: int
    sent_s: float

    @property
    def is_wanted(self) -> bool:
        """Somebody still waits for an answer from this batch."""
        return any(job.done is not None for job in self.jobs)

    @property
    def deadline(self) -> float:
        """When the last of its jobs is late."""
        return max(job.deadline for job in self.jobs)

    @property
    def layout(self) -> Any:
        """Equal for batches whose tensors have equal shapes; None when only a look at them tells."""
        group = self.jobs[0].group
        return self.rows if group == 1 else None if group is None else (self.rows, group)

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Of each job."""
        return [job.request.inputs for job in self.jobs]

    def fail(self, error: TowlineError) -> None:
        for job in self.jobs:
            job.answer(error)

    def finish(self, outputs: dict[str, Any], expected: Sequence[Expected], name: str, number: int) -> None:
        """Give each job its own rows. Outputs come from a worker: nothing about them is believed unchecked."""
        jobs = self.jobs
        if not outputs and jobs[0].on_part is not None:
            jobs[0].answer(Response({}, name, number))
            return
        problem = misfit(outputs, expected[jobs[0].signature], self.rows if len(jobs) > 1 else None)
        if problem:
            self.fail(EngineError(problem, code="BAD_OUTPUT"))
            return
        # Who ran alone is given all there is.
        merged = Merged(outputs) if len(jobs) > 1 else None
        start = 0
        answered: dict[Account, list[Job]] = {}
        for job in jobs:
            request = job.request
            end = start + request.rows
            if request.outputs and (lack := lacking(outputs, request.outputs)):
                job.answer(lack)
            # As Job.answer does, for all of them: told apart, each would cost as much again as the engine's run.
            done, job.done = job.done, None
            if done is not None:
                if job.timer is not None:
                    job.timer.cancel()
                response = Response(_NOTHING, name, number, merged, start, end) if merged else Response(outputs, name, number)
                if request.outputs:
                    response = Response(selected(response.outputs, request.outputs), name, number)
                try:
                    done(response)
                except Exception:
                    excuse(done)
                if (account := job.account) in answered:
                    answered[account].append(job)
                else:
                    answered[account] = [job]
            start = end
        for account, its in answered.items():
            account.many(its)

    def pass_on(self, outputs: dict[str, Any], expected: Sequence[Expected], name: str, number: int, more: Callable[[], None]) -> None:
        """Give the one job of a stream its next part, believed no more than a whole answer."""
        (job,) = self.jobs
        problem = misfit(outputs, expected[job.signature], None)
        if problem:
            job.answer(EngineError(problem, code="BAD_OUTPUT"))
        elif lack := lacking(outputs, job.request.outputs):
            job.answer(lack)
        elif job.done is not None and job.on_part is not None:
            job.parts += 1
            job.on_part(Response(selected(outputs, job.request.outputs), name, number), more)


def excuse(done: Done) -> None:
    """Tell a client whose answer its protocol failed to write, while that is handled. No second answer goes where one was written."""
    log.exception("an answer could not be given; those that ran with it are")
    with contextlib.suppress(Exception):
        done(TowlineError("The server failed to answer; its log says why."))


_NOTHING: dict[str, Any] = {}


def selected(outputs: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    """Those that a request asks for; none named means all."""
    return {name: outputs[name] for name in wanted} if wanted else outputs


def lacking(outputs: dict[str, Any], wanted: tuple[str, ...]) -> EngineError | None:
    """Of what a request asks for, the first that there is not. It was to be refused when it was read; here it must not strand its batch."""
    absent = next((name for name in wanted if name not in outputs), None)
    return None if absent is None else EngineError(f"The model has no output '{clip(absent)}'.", code="BAD_OUTPUT", field="outputs")


def expected_outputs(manifest: Manifest) -> tuple[Expected, ...]:
    """What `Batch.finish` compares outputs with, for each signature; made once per slot."""
    signatures = [manifest.signatures[name] for name in manifest.signature_names]
    return tuple({spec.name: dtypes.BY_NAME[spec.dtype].numpy for spec in signature.outputs} for signature in signatures)


def misfit(outputs: dict[str, Any], expected: Expected, rows: int | None) -> str:
    """What is wrong with a worker's outputs, or nothing. `rows` is what a merged batch must have as its first dim."""
    if len(outputs) != len(expected):
        return f"The model gave {len(outputs)} outputs, its signature has {len(expected)}."
    for name, dtype in expected.items():
        array = outputs.get(name)
        if array is None or (array.dtype is not dtype and array.dtype != dtype):
            return f"Output '{name}' did not come as {dtype}."
        if rows is not None and (array.ndim == 0 or array.shape[0] != rows):
            return f"Output '{name}' does not have one row for each of the {rows} rows of its batch."
    return ""
