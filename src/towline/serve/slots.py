"""One loaded version: new -> loading -> warming -> ready -> draining -> closed | failed. It cannot close while a request leases it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from towline.core.errors import Kind, Overloaded, TowlineError, Unavailable
from towline.core.inference import Request
from towline.core.manifest import Manifest, Signature
from towline.serve import recovery
from towline.serve.accounts import Leases, ProtocolAccount
from towline.serve.admission import bytes_with_strings, crashed, group_of, has_free_dims
from towline.serve.aftermath import Aftermath
from towline.serve.batcher import Batcher, late
from towline.serve.contract import Done, OnPart, signature_named
from towline.serve.crew import Crew
from towline.serve.jobs import Batch, Job, expected_outputs
from towline.serve.lanes import Lane
from towline.serve.objective import LatencyObjective
from towline.serve.padded import PaddedBatcher
from towline.serve.padding import Plan
from towline.serve.quarantine import Quarantine
from towline.serve.router import WantedVersion
from towline.serve.splitting import Split
from towline.serve.statistics import BatchCounts
from towline.serve.surroundings import Meter, SlotLimits, Surroundings
from towline.serve.trials import Trial

log = logging.getLogger("towline.serve")

# With the second between two pings, a worker that is stopped is replaced within five.
_PING_LIMIT_S = 3.0


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
        self.on_change: Callable[[Slot], None] = lambda slot: None
        self._version = version
        self._around = around
        self._limits = limits
        # Further workers that are being opened beside those that answer.
        self.lanes_to_come = 0
        # It was ready once, lost its worker, and could not get another yet.
        self.is_bereaved = False
        self._crew = Crew()
        self._batches = around.meters.batches(self.name, self.number)
        self._batcher = self._new_batcher()
        self._signature = manifest.signature
        self._expected = expected_outputs(manifest)
        # None: requests of this version never share a batch.
        self._only_group = 1 if manifest.batchable else None
        self._groups_vary = manifest.batchable and any(has_free_dims(spec.shape) for spec in self._signature.inputs)
        self._has_strings = any(spec.dtype == "string" for one in manifest.signatures.values() for spec in one.inputs)
        # Code of a user's may do more than answer: only he can say that doing it twice does no harm.
        self._may_repeat = manifest.handler is None or manifest.handler.idempotent
        self._streams = manifest.handler is not None and manifest.handler.streams
        self._places = {name: place for place, name in enumerate(manifest.signature_names)}
        self._quarantine = Quarantine(around.clock)
        self._leases = Leases()
        self._accounts: dict[str, ProtocolAccount] = {}
        self.counts = BatchCounts()
        self._objective: LatencyObjective | None = None
        self._failures = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Task[None] | None = None
        # Batches that run on although nobody waits for them, and since when.
        self._unwanted: dict[Batch, float] = {}
        self._pinged: set[Lane] = set()
        self._aftermath = Aftermath(
            version,
            around,
            self._batcher,
            self._quarantine,
            tell=lambda kind, details: around.tell(kind, self, details),
            may_run_again=self._may_run_again,
            new_trial=lambda: Trial(version, manifest, self._expected, around),
        )

    def _new_batcher(self) -> Batcher:
        around, most = self._around, self._limits.max_batch
        bounds: dict[str, Any] = {"max_rows": most, "max_bytes": around.lanes.batch_bytes(), "clock": around.clock, "loop": around.loop}
        if self.manifest.batchable and self.manifest.padding:
            return PaddedBatcher(Plan(self.manifest), self._batches.observe_padding, **bounds)
        return Batcher(**bounds)

    def __repr__(self) -> str:
        return f"{self.name}:{self.number} ({self.state})"

    @property
    def pid(self) -> int:
        return next(iter(self._crew.pids), 0)

    @property
    def pids(self) -> tuple[int, ...]:
        return self._crew.pids

    @property
    def runs_at_once(self) -> int:
        """In all its workers together; 0 when it has none."""
        return self._crew.lane.threads if self._crew.lane is not None else 0

    @property
    def leases(self) -> int:
        """Requests that are not answered yet."""
        return self._leases.count

    @property
    def meters(self) -> list[Meter]:
        return [account.meter for account in self._accounts.values()]

    @property
    def memory_bytes(self) -> int:
        return self.manifest.measured.memory_loaded_bytes

    @property
    def max_batch(self) -> int:
        return self._limits.max_batch

    def limit(self, limits: SlotLimits) -> None:
        """From now on. What waits already was admitted under the old ones."""
        if limits != self._limits:
            self._limits = limits
            self._aim()

    def _aim(self) -> None:
        """How many rows may share a run: as many as pay, at most as many as may, and fewer while an objective is missed."""
        most = self._limits.max_batch
        if self._crew.max_rows:
            most = min(most, self._crew.max_rows)
        slo_ms = self._limits.latency_slo_ms
        self._objective = LatencyObjective(slo_ms / 1000, most_rows=most) if slo_ms else None
        self._batcher.limit(max_rows=most)
        self._batcher.pads_up_to = self._crew.pads_up_to if self._limits.padding else 0

    def signature(self, name: str = "") -> Signature:
        return signature_named(self.manifest, name) if name else self._signature

    # A request

    def infer(self, request: Request, done: Done, protocol: str, on_part: OnPart | None = None) -> Callable[[], None]:
        """Admit one request. `done` hears exactly one answer, after any parts.

        The caller got this slot from the router in the same turn of the loop.
        """
        now = self._around.clock()
        nbytes = 0
        for array in request.inputs.values():
            nbytes += array.nbytes
        if self._has_strings:
            nbytes = bytes_with_strings(request)
        limit_s = now + self._limits.timeout_s
        deadline = limit_s if request.deadline is None else min(request.deadline, limit_s)
        account = self._accounts.get(protocol) or self._account(protocol)
        job = Job(request, done, nbytes, now, deadline, group_of(request) if self._groups_vary else self._only_group, account)
        if request.signature and (place := self._places[request.signature]):
            # Only of the default signature was it proven that rows may share a batch.
            job.signature, job.group = place, None
        if on_part is not None and self._streams:
            job.on_part, job.group = on_part, None
        account.meter.inflight += 1
        self._leases.count += 1
        batcher, limits = self._batcher, self._limits
        if (
            len(batcher.queue) >= limits.max_waiting_requests
            or batcher.waiting_bytes + nbytes > limits.max_waiting_bytes
            or deadline <= now
            or batcher.backlog.per_job_s
            or self._quarantine.until
            or self.state == "failed"
        ):
            refusal = self._refusal(job, now)
            if refusal is not None:
                job.answer(refusal)
                return job.abandon
        if request.deadline is not None:
            job.timer = self._around.loop.call_at(deadline - now + self._around.loop.time(), self._expire, job)
        if request.rows > batcher.max_rows and job.group is not None:
            split = Split(job, batcher.max_rows)
            for part in split.jobs:
                batcher.put(part)
            return split.abandon
        batcher.put(job)
        return job.abandon

    def _refusal(self, job: Job, now: float) -> TowlineError | None:
        batcher, limits = self._batcher, self._limits
        if self.state == "failed":
            return Unavailable(f"Model '{self.name}' is not ready: its engine keeps failing.", code="MODEL_FAILED", retry_after_s=1.0)
        if job.deadline <= now:
            return late(job)
        wait_s = batcher.wait_s(job)
        if wait_s > min(job.deadline - now, limits.max_waiting_s):
            said = f"Model '{self.name}' has {len(batcher)} requests waiting: another would wait {wait_s:.1f} s, longer than it may."
            return Overloaded(said, retry_after_s=wait_s)
        if self._quarantine.holds(job.request.inputs):
            return crashed(self.name)
        while len(batcher) >= limits.max_waiting_requests or batcher.waiting_bytes + job.nbytes > limits.max_waiting_bytes:
            gives_way = batcher.last_below(job.request.priority)
            full = Overloaded(f"Model '{self.name}' has {len(batcher)} requests waiting already.", retry_after_s=1.0)
            if gives_way is None:
                return full
            gives_way.answer(full)
        return None

    def _account(self, protocol: str) -> ProtocolAccount:
        """Made once per protocol, so that a request costs no closure."""
        meter: Meter = self._around.meters.of(self.name, self.number, "", protocol)
        account = self._accounts[protocol] = ProtocolAccount(meter, self._around.clock, self._leases)
        return account

    def _expire(self, job: Job) -> None:
        job.answer(late(job))

    # Batches

    def _on_batch(self, batch: Batch, result: dict[str, Any] | TowlineError, spent_us: int) -> None:
        self._batches.observe(batch.rows, batch.sent_s - batch.jobs[0].admitted_s, spent_us / 1e6)
        if self._objective is not None and self._objective.observe(self._around.clock() - batch.jobs[0].admitted_s, batch.rows):
            self._batcher.limit(max_rows=self._objective.max_rows)
        try:
            if isinstance(result, dict):
                self.counts.add(batch, spent_us)
                batch.finish(result, self._expected, self.name, self.number)
            elif result.kind is not Kind.DEADLINE and len(batch.jobs) == 1:
                batch.fail(result)
            elif result.kind is Kind.INVALID or all(map(self._may_run_again, batch.jobs)):
                # Who refuses a request has not carried it out.
                self._repeat(batch, result)
            else:
                self._give_up(batch, result)
        finally:
            if self._batcher.queue:
                self._batcher.flush_after_reading()

    def _on_part(self, batch: Batch, outputs: dict[str, Any], more: Callable[[], None]) -> None:
        batch.pass_on(outputs, self._expected, self.name, self.number, more)

    def _may_run_again(self, job: Job) -> bool:
        return self._may_repeat and not job.parts

    def _give_up(self, batch: Batch, error: TowlineError) -> None:
        """What must not run twice is told why; who is not late was stopped while he waited."""
        now = self._around.clock()
        stopped = Unavailable(f"Model '{self.name}' was stopped while it answered.", code="RUN_STOPPED", retry_after_s=1.0)
        for job in batch.jobs:
            job.answer(error if error.kind is not Kind.DEADLINE else late(job) if job.deadline <= now else stopped)

    def _repeat(self, batch: Batch, error: TowlineError) -> None:
        """Run the jobs of a refused batch again, each by itself: one bad item must not spoil its neighbours."""
        now = self._around.clock()
        again = []
        for job in batch.jobs:
            if error.kind is Kind.DEADLINE and job.deadline <= now:
                job.answer(late(job))
            elif job.done is not None:
                job.group = None
                again.append(job)
        self._batcher.put_back(again)

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
        unwanted = {batch: self._unwanted.get(batch, now) for batch in lane.running if not batch.is_wanted}
        if unwanted.keys() - self._unwanted.keys():
            lane.terminate_runs()
        self._unwanted |= unwanted
        if any(recovery.has_overrun(now_s=now, deadline_s=batch.deadline, unwanted_since_s=since) for batch, since in unwanted.items()):
            log.warning("a run of %s:%s does not stop at its deadline; its worker is replaced", self.name, self.number)
            self._around.kill(lane.pid)

    def ping(self) -> None:
        """Every second: a worker that is stopped or stuck outside a run is replaced."""
        for lane in self._crew:
            if self.state == "ready" and lane not in self._pinged and lane.pid:
                self._start(self._ping(lane))

    async def _ping(self, lane: Lane) -> None:
        self._pinged.add(lane)
        try:
            await lane.ask({"do": "ping"}, timeout_s=_PING_LIMIT_S)
        except TowlineError:
            if not lane.is_dead:
                log.warning("worker of %s:%s does not answer and is replaced", self.name, self.number)
                self._around.kill(lane.pid)
        finally:
            self._pinged.discard(lane)

    # Life

    async def open(self) -> None:
        """Load and warm; afterwards the state is ready or failed."""
        measured = self.manifest.measured
        needed = max(measured.memory_loaded_bytes, measured.memory_peak_bytes)
        available = self._around.available_memory_bytes()
        if not self._around.force and not recovery.fits(needed_bytes=needed, available_bytes=available):
            free = (available or 0) >> 20
            self._fail(f"It needs {needed >> 20} MiB as measured at import, {free} MiB are free. Free memory, or serve with --force.")
            return
        self._become("loading")
        if await self._open_lane():
            for _ in range(self._limits.instances - 1):
                self.lanes_to_come += 1
                self._start(self._add_lane(needed))

    async def _add_lane(self, needed_bytes: int) -> None:
        """One more worker beside those that answer already; without room for it the slot goes on with fewer."""
        available = self._around.available_memory_bytes()
        try:
            if self._around.force or recovery.fits(needed_bytes=needed_bytes, available_bytes=available):
                await self._open_lane()
            else:
                log.warning("%s:%s runs in fewer workers than it may: there is no memory for one more", self.name, self.number)
        finally:
            self.lanes_to_come -= 1

    async def _open_lane(self) -> bool:
        """Whether there is a lane to run on now."""
        try:
            lane = await self._around.lanes.open(self._version, self.manifest, self._become_while_opening)
        except TowlineError as error:
            if self._crew:
                log.warning("a further worker of %s:%s is not ready: %s", self.name, self.number, error)
                return True
            self._fail(error.message)
            return False
        if self.state == "closed":
            self._around.lanes.end(lane)
            return False
        lane.on_batch = self._on_batch
        lane.on_part = self._on_part
        lane.on_death = self._on_death
        self._crew.join(lane)
        self._batcher.lane = self._crew.lane
        self._aim()
        self._failures = 0
        self.is_bereaved = False
        if self.state != "ready":
            self._become("ready")
        if lane.is_dead:
            # Between its last answer and now, when nobody listened.
            self._on_death(lane)
        self._batcher.flush()
        return True

    def _fail(self, why: str) -> None:
        self._failures += 1
        self._become("failed", why)
        self._batcher.fail_all(Unavailable(f"Model '{self.name}' could not be loaded.", code="MODEL_FAILED", retry_after_s=1.0))

    def retry_in_s(self) -> float:
        """How long a failed slot waits before it is tried again."""
        return recovery.back_off_s(self._failures)

    def drain(self, keep_s: float) -> None:
        """Nobody routes to this slot any more: stay loaded for a while, then close when the last lease is returned."""
        self._become("draining")
        self._draining = self._start(self._end_later(keep_s))

    def revive(self) -> bool:
        """Wanted again while it is kept: it answers at once. False when it cannot, and must be loaded anew."""
        if self.state != "draining" or not any(not lane.is_dead for lane in self._crew):
            return False
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        self._become("ready")
        return True

    async def _end_later(self, keep_s: float) -> None:
        await asyncio.sleep(keep_s)
        await self._leases.returned()
        self.close()

    def close(self) -> None:
        if self.state == "closed":
            return
        self._become("closed")
        self._batcher.lane = None
        self._batcher.fail_all(Unavailable("The server is stopping.", code="STOPPING"))
        for lane in self._crew:
            lane.on_death = lambda lane: None
            self._around.lanes.end(lane)
        self._around.meters.forget(self.name, self.number)

    def _become_while_opening(self, state: str) -> None:
        """A slot that answers goes on answering while another worker is loaded."""
        if not self._crew:
            self._become(state)

    def _become(self, state: str, error: str = "") -> None:
        is_leaving = self._draining is not None and state not in ("draining", "closed")
        if self.state == "closed" or is_leaving:
            # A worker replaced for the last leases of a slot that leaves does not make it stay.
            return
        self.state, self.error, self.since_s = state, error, self._around.clock()
        self._around.meters.set_ready(self.name, self.number, state == "ready")
        self.on_change(self)

    # Death of a worker

    def _on_death(self, lane: Lane) -> None:
        self._crew.leave(lane)
        self._batcher.lane = self._crew.lane
        # One that only hung up, or answered nonsense, would go on running.
        self._around.kill(lane.pid)
        if self.state == "closed":
            return
        self._around.meters.worker_restarted(self.name, self.number)
        self.is_bereaved = not self._crew
        reopening = asyncio.ensure_future(self._open_lane())
        self._start(self._aftermath.settle(lane.pid, lane.running, reopening))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._around.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
