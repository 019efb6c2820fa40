"""One loaded version: new -> loading -> warming -> ready -> draining -> closed | failed. It cannot close while a request leases it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from towline.core.errors import EngineError, InvalidRequest, Kind, Overloaded, TowlineError, Unavailable
from towline.core.inference import Request, Response
from towline.core.manifest import Manifest, Signature
from towline.core.refs import clip
from towline.serve import recovery
from towline.serve.batcher import Batcher, late
from towline.serve.contract import Done
from towline.serve.jobs import Batch, Job, expected_outputs
from towline.serve.lanes import Lane, Lanes
from towline.serve.quarantine import Quarantine
from towline.serve.recovery import Fate
from towline.serve.router import WantedVersion
from towline.serve.workers.hub import Exit

log = logging.getLogger("towline.serve")

_TERMINATE_GRACE_S = 1.0
_PING_LIMIT_S = 4.0


Answered = Callable[[Job, "Response | TowlineError"], None]


class Meter(Protocol):
    """Counts one version's requests over one protocol."""

    inflight: int

    def observe(self, code: str, duration_s: float) -> None: ...


class Meters(Protocol):
    """Where slots report (monitor/metrics.py)."""

    def of(self, model: str | None, version: int | str = "", track: str = "", protocol: str = "") -> Any: ...

    def batches(self, model: str, version: int | str, track: str = "") -> Any: ...

    def worker_restarted(self, model: str, version: int | str) -> None: ...

    def quarantined(self, model: str, version: int | str) -> None: ...

    def set_ready(self, model: str, version: int | str, is_ready: bool) -> None: ...

    def forget(self, model: str, version: int | str) -> None: ...


@dataclass(frozen=True)
class SlotLimits:
    max_waiting_requests: int
    max_waiting_bytes: int
    timeout_s: float
    max_batch: int


@dataclass(frozen=True)
class Surroundings:
    """What every slot of a server shares."""

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    lanes: Lanes
    meters: Meters
    kill: Callable[[int], None]
    exit_of: Callable[[int], Any]
    available_memory_bytes: Callable[[], int | None]
    tell: Callable[..., None]
    force: bool = False


class Slot:
    """See the module's sentence. Everything here runs on the event loop."""

    def __init__(
        self, version: WantedVersion, manifest: Manifest, labels: tuple[str, ...], limits: SlotLimits, around: Surroundings
    ) -> None:
        self.name = version.name
        self.number = version.number
        self.digest = version.digest
        self.manifest = manifest
        self.labels = labels
        self.codecs: dict[Any, Any] = {}
        self.state = "new"
        self.error = ""
        self.since_s = around.clock()
        self.leases = 0
        self.on_change: Callable[[Slot], None] = lambda slot: None
        self._version = version
        self._around = around
        self._limits = limits
        # It was ready once, lost its worker, and could not get another yet.
        self.is_bereaved = False
        self._lane: Lane | None = None
        self._batcher = Batcher(max_rows=limits.max_batch, max_bytes=around.lanes.batch_bytes(), clock=around.clock, loop=around.loop)
        self._signature = manifest.signature
        self._expected = expected_outputs(self._signature)
        # None: requests of this version never share a batch.
        self._only_group = 1 if manifest.batchable else None
        self._groups_vary = manifest.batchable and any(_has_free_dims(spec.shape) for spec in self._signature.inputs)
        self._quarantine = Quarantine(around.clock)
        self._meters: dict[str, tuple[Meter, Answered]] = {}
        self._batches = around.meters.batches(self.name, self.number)
        self._failures = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unwanted_since_s: float | None = None
        self._is_pinging = False

    def __repr__(self) -> str:
        return f"{self.name}:{self.number} ({self.state})"

    @property
    def pid(self) -> int:
        return self._lane.pid if self._lane is not None and not self._lane.is_dead else 0

    def signature(self, name: str = "") -> Signature:
        if not name:
            return self._signature
        found = self.manifest.signatures.get(name)
        if found is None:
            known = ", ".join(sorted(self.manifest.signatures))
            raise InvalidRequest(
                f"Signature '{clip(name)}' is not in this version; it has {known}.", code="UNKNOWN_SIGNATURE", field="signature_name"
            )
        return found

    # A request

    def infer(self, request: Request, done: Done, protocol: str) -> Callable[[], None]:
        """Admit one request. `done` hears exactly one answer. The caller got this slot from the router in the same turn of the loop."""
        now = self._around.clock()
        nbytes = 0
        for array in request.inputs.values():
            nbytes += array.nbytes
        limit_s = now + self._limits.timeout_s
        deadline = limit_s if request.deadline is None else min(request.deadline, limit_s)
        meter, answered = self._meters.get(protocol) or self._meter(protocol)
        job = Job(request, done, nbytes, now, deadline, self._group(request) if self._groups_vary else self._only_group, answered)
        meter.inflight += 1
        self.leases += 1
        refusal = self._refusal(job, now)
        if refusal is not None:
            job.answer(refusal)
            return job.abandon
        if request.deadline is not None:
            job.timer = self._around.loop.call_at(deadline - now + self._around.loop.time(), self._expire, job)
        self._batcher.put(job)
        return job.abandon

    @staticmethod
    def _group(request: Request) -> Any:
        """Requests of equal group may share a batch: all their dims but the first are equal."""
        return tuple(array.shape[1:] for array in request.inputs.values())

    def _refusal(self, job: Job, now: float) -> TowlineError | None:
        batcher, limits = self._batcher, self._limits
        if self.state == "failed":
            return Unavailable(f"Model '{self.name}' is not ready: its engine keeps failing.", code="MODEL_FAILED", retry_after_s=1.0)
        if len(batcher) >= limits.max_waiting_requests or batcher.waiting_bytes + job.nbytes > limits.max_waiting_bytes:
            return Overloaded(f"Model '{self.name}' has {len(batcher)} requests waiting already.", retry_after_s=1.0)
        if job.deadline <= now:
            return late(job)
        if self._quarantine and self._quarantine.holds(job.request.inputs):
            return _crashed(self.name)
        return None

    def _meter(self, protocol: str) -> tuple[Meter, Answered]:
        """Made once per protocol, so that a request costs no closure."""
        meter: Meter = self._around.meters.of(self.name, self.number, "", protocol)
        clock = self._around.clock

        def answered(job: Job, result: Response | TowlineError) -> None:
            self.leases -= 1
            meter.inflight -= 1
            if not self.leases:
                self._is_idle.set()
            meter.observe("OK" if isinstance(result, Response) else result.code, clock() - job.admitted_s)

        self._meters[protocol] = meter, answered
        return meter, answered

    def _expire(self, job: Job) -> None:
        job.answer(late(job))

    # Batches

    def _on_batch(self, batch: Batch, result: dict[str, Any] | TowlineError, spent_us: int) -> None:
        self._unwanted_since_s = None
        self._batches.observe(batch.rows, batch.sent_s - batch.jobs[0].admitted_s, spent_us / 1e6)
        try:
            if isinstance(result, dict):
                batch.finish(result, self._expected, self.name, self.number)
            elif len(batch.jobs) > 1 and result.kind is not Kind.DEADLINE:
                # One bad item must not spoil its neighbours: each runs again by itself and gets its own answer.
                self._start(self._run_alone(batch.jobs))
            else:
                batch.fail(result)
        finally:
            self._batcher.flush_after_reading()

    def tick(self) -> None:
        """Several times a second: deadlines of what waits and runs, and of workers that do not answer."""
        self._batcher.drop_late()
        lane, now = self._lane, self._around.clock()
        if lane is None or lane.is_dead:
            return
        unwanted = False
        for batch in lane.running:
            for job in batch.jobs:
                if job.deadline <= now:
                    job.answer(late(job))
            unwanted = unwanted or not batch.is_wanted
        if not unwanted:
            self._unwanted_since_s = None
        elif self._unwanted_since_s is None:
            self._unwanted_since_s = now
            lane.terminate_runs()
        elif now - self._unwanted_since_s > _TERMINATE_GRACE_S:
            self._unwanted_since_s = None
            self._around.kill(lane.pid)

    def ping(self) -> None:
        """Every second: a worker that is stopped or stuck outside a run is replaced."""
        if self._lane is not None and self.state == "ready" and not self._is_pinging and self._lane.pid:
            self._start(self._ping(self._lane))

    async def _ping(self, lane: Lane) -> None:
        self._is_pinging = True
        try:
            await lane.ask({"do": "ping"}, timeout_s=_PING_LIMIT_S)
        except TowlineError:
            if not lane.is_dead:
                log.warning("worker of %s:%s does not answer and is replaced", self.name, self.number)
                self._around.kill(lane.pid)
        finally:
            self._is_pinging = False

    # Life

    async def open(self) -> None:
        """Load and warm; afterwards the state is ready or failed."""
        measured = self.manifest.measured
        needed = max(measured.memory_loaded_bytes, measured.memory_peak_bytes)
        available = self._around.available_memory_bytes()
        if not self._around.force and not recovery.fits(needed_bytes=needed, available_bytes=available):
            free = (available or 0) >> 20
            self._become(
                "failed", f"It needs {needed >> 20} MiB as measured at import, {free} MiB are free. Free memory, or serve with --force."
            )
            return
        self._become("loading")
        await self._open_lane()

    async def _open_lane(self) -> None:
        try:
            lane = await self._around.lanes.open(self._version, self.manifest, self._become)
        except TowlineError as error:
            self._failures += 1
            self._become("failed", error.message)
            self._batcher.fail_all(Unavailable(f"Model '{self.name}' could not be loaded.", code="MODEL_FAILED", retry_after_s=1.0))
            return
        if self.state == "closed":
            self._around.lanes.end(lane)
            return
        lane.on_batch = self._on_batch
        lane.on_death = self._on_death
        self._lane = self._batcher.lane = lane
        self._failures = 0
        self.is_bereaved = False
        self._become("ready")
        self._batcher.flush()

    def retry_in_s(self) -> float:
        """How long a failed slot waits before it is tried again."""
        return recovery.back_off_s(self._failures)

    async def drain(self, keep_s: float) -> None:
        """Close when the last lease is returned. Nobody routes to this slot any more."""
        self._become("draining")
        await asyncio.sleep(keep_s)
        while self.leases:
            self._is_idle.clear()
            await self._is_idle.wait()
        self.close()

    def close(self) -> None:
        self._become("closed")
        self._batcher.fail_all(Unavailable("The server is stopping.", code="STOPPING"))
        if self._lane is not None:
            self._lane.on_death = lambda lane: None
            self._around.lanes.end(self._lane)
        self._around.meters.forget(self.name, self.number)

    def _become(self, state: str, error: str = "") -> None:
        if self.state == "closed":
            return
        self.state, self.error, self.since_s = state, error, self._around.clock()
        self._around.meters.set_ready(self.name, self.number, state == "ready")
        self.on_change(self)

    # Death of a worker

    def _on_death(self, lane: Lane) -> None:
        self._batcher.lane = None
        self._start(self._recover(lane, lane.running))

    async def _recover(self, lane: Lane, batches: list[Batch]) -> None:
        """Replace the worker, and decide about what it was running once it is known how it died."""
        self._around.meters.worker_restarted(self.name, self.number)
        self.is_bereaved = True
        reopening = asyncio.ensure_future(self._open_lane())
        end = await self._around.exit_of(lane.pid)
        self._around.tell("worker.died", self, {"pid": lane.pid, "signal": end.signal_number, "status": end.status})
        jobs = [job for batch in batches for job in batch.jobs if job.done is not None]
        again: list[Job] = []
        suspects: list[Job] = []
        was_alone = sum(len(batch.jobs) for batch in batches) == 1
        for job in jobs:
            match self._judge(job, end, was_alone):
                case Fate.RETRY:
                    again.append(job)
                case Fate.SUSPECT:
                    suspects.append(job)
        await reopening
        if self.state == "failed":
            for job in (*again, *suspects):
                job.answer(Unavailable(f"Model '{self.name}' lost its worker.", code="WORKER_DIED", retry_after_s=1.0))
            return
        if again:
            self._batcher.put_back(again)
        if suspects:
            await self._run_alone(suspects)

    def _judge(self, job: Job, end: Exit, was_alone: bool) -> Fate:
        """Decide, and answer at once the jobs that are not to run again."""
        job.tries += 1
        fate = recovery.fate(
            signal_number=end.signal_number, was_alone=was_alone, tries=job.tries, may_repeat=True, out_of_memory=end.out_of_memory
        )
        if fate is Fate.QUARANTINE:
            digest = self._quarantine.add(job.request.inputs)
            self._around.meters.quarantined(self.name, self.number)
            self._around.tell("request.quarantined", self, {"signal": end.signal_number, "inputs": digest})
            job.answer(_crashed(self.name))
        elif fate is Fate.OUT_OF_MEMORY:
            job.answer(EngineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY))
        elif fate is Fate.GIVE_UP:
            job.answer(Unavailable(f"Model '{self.name}' lost its worker {job.tries} times.", code="WORKER_DIED", retry_after_s=1.0))
        return fate

    async def _run_alone(self, jobs: list[Job]) -> None:
        """Run each job by itself in a worker of their own, while the slot's worker serves the others."""
        trial = Trial(self, self._around)
        for job in jobs:
            while job.done is not None:
                end = await trial.run(job)
                if end is None or self._judge(job, end, True) not in (Fate.RETRY, Fate.SUSPECT):
                    break
        trial.close()

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Trial:
    """A lane beside the slot's own, in which suspects run one at a time."""

    def __init__(self, slot: Slot, around: Surroundings) -> None:
        self._slot = slot
        self._around = around
        self._lane: Lane | None = None

    async def run(self, job: Job) -> Exit | None:
        """Run one job; None when it was answered, or how its worker ended."""
        try:
            if self._lane is None:
                self._lane = await self._around.lanes.open(self._slot._version, self._slot.manifest, lambda state: None)
        except TowlineError as error:
            job.answer(Unavailable(error.message, code="WORKER_DIED", retry_after_s=1.0))
            return None
        lane = self._lane
        ended: asyncio.Future[bool] = self._around.loop.create_future()

        def on_batch(batch: Batch, result: dict[str, Any] | TowlineError, spent_us: int) -> None:
            if isinstance(result, dict):
                batch.finish(result, self._slot._expected, self._slot.name, self._slot.number)
            else:
                batch.fail(result)
            ended.set_result(True)

        lane.on_batch = on_batch
        lane.on_death = lambda lane: ended.set_result(False) if not ended.done() else None
        lane.run(Batch([job], job.request.rows, self._around.clock()))
        if await self._finished(lane, job, ended):
            return None
        self._lane = None
        end: Exit = await self._around.exit_of(lane.pid)
        return end

    async def _finished(self, lane: Lane, job: Job, ended: asyncio.Future[bool]) -> bool:
        """True when the lane answered. One that is late is answered, asked to stop, and killed if it does not."""
        left_s = max(job.deadline - self._around.clock(), 0.0)
        for wait_s, then in ((left_s, lane.terminate_runs), (_TERMINATE_GRACE_S, lambda: self._around.kill(lane.pid))):
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


def _has_free_dims(shape: tuple[int | str, ...] | None) -> bool:
    """Requests may differ in more than their number of rows."""
    return shape is None or any(isinstance(dim, str) for dim in shape[1:])


def _crashed(name: str) -> EngineError:
    return EngineError(
        f"This input makes the engine of model '{name}' crash; it is not run again for a while.",
        code="ENGINE_CRASHED",
        hint="Send another input. The model's owner finds the digest of this one in 'towline events'.",
    )
