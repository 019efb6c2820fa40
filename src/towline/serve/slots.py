"""One loaded version: new -> loading -> warming -> ready -> draining -> closed | failed. It cannot close while a request leases it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from towline.core.errors import TowlineError, Unavailable
from towline.core.inference import Request
from towline.core.manifest import Manifest, Signature
from towline.serve.accounts import Leases, ProtocolAccount
from towline.serve.admission import bytes_with_strings, group_of, has_free_dims, refusal
from towline.serve.batcher import Batcher, late
from towline.serve.contract import Done, OnPart, signature_named
from towline.serve.delivery import Delivery
from towline.serve.jobs import Job
from towline.serve.objective import LatencyObjective
from towline.serve.padded import PaddedBatcher
from towline.serve.padding import Plan
from towline.serve.router import WantedVersion
from towline.serve.splitting import Split
from towline.serve.staffing import Staffing
from towline.serve.surroundings import BatchMeter, Meter, SlotLimits, Surroundings
from towline.serve.watchdog import Watchdog


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
        self.limits = limits
        self.codecs: dict[Any, Any] = {}
        self.state = "new"
        self.error = ""
        self.since_s = around.clock()
        self.on_change: Callable[[Slot], None] = lambda slot: None
        self._around = around
        self._clock = around.clock
        self._signature = manifest.signature
        # None: requests of this version never share a batch.
        self._only_group = 1 if manifest.batchable else None
        self._groups_vary = manifest.batchable and any(has_free_dims(spec.shape) for spec in self._signature.inputs)
        self._has_strings = any(spec.dtype == "string" for one in manifest.signatures.values() for spec in one.inputs)
        self._streams = manifest.handler is not None and manifest.handler.streams
        self._places = {name: place for place, name in enumerate(manifest.signature_names)}
        self._leases = Leases()
        self._accounts: dict[str, ProtocolAccount] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Task[None] | None = None
        meter = around.meters.batches(self.name, self.number)
        self._batcher = _batcher(manifest, limits, around, meter)
        self._delivery = Delivery(version, manifest, self._batcher, meter, around.clock)
        self.counts = self._delivery.counts
        self._staff = Staffing(self, version, manifest, around, self._batcher, self._delivery)
        self._quarantine = self._staff.quarantine
        self._watchdog = Watchdog(version, around, self._batcher, self._staff.crew, self.start)

    def __repr__(self) -> str:
        return f"{self.name}:{self.number} ({self.state})"

    @property
    def pid(self) -> int:
        return next(iter(self._staff.crew.pids), 0)

    @property
    def pids(self) -> tuple[int, ...]:
        return self._staff.crew.pids

    @property
    def runs_at_once(self) -> int:
        """In all its workers together; 0 when it has none."""
        return self._staff.crew.lane.threads if self._staff.crew.lane is not None else 0

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
    def lanes_to_come(self) -> int:
        return self._staff.lanes_to_come

    @property
    def is_bereaved(self) -> bool:
        return self._staff.is_bereaved

    @property
    def max_batch(self) -> int:
        return self.limits.max_batch

    def limit(self, limits: SlotLimits) -> None:
        """From now on. What waits already was admitted under the old ones."""
        if limits != self.limits:
            self.limits = limits
            self.aim()

    def aim(self) -> None:
        """How many rows may share a run: as many as pay, at most as many as may, and fewer while an objective is missed."""
        crew, most = self._staff.crew, self.limits.max_batch
        if crew.max_rows:
            most = min(most, crew.max_rows)
        slo_ms = self.limits.latency_slo_ms
        self._delivery.objective = LatencyObjective(slo_ms / 1000, most_rows=most) if slo_ms else None
        self._batcher.limit(max_rows=most)
        self._batcher.pads_up_to = crew.pads_up_to if self.limits.padding else 0

    def signature(self, name: str = "") -> Signature:
        return signature_named(self.manifest, name) if name else self._signature

    # A request

    def infer(self, request: Request, done: Done, protocol: str, on_part: OnPart | None = None) -> Callable[[], None]:
        """Admit one request. `done` hears exactly one answer, after any parts.

        The caller got this slot from the router in the same turn of the loop.
        """
        # A name of its own: called as if it were a method, it is looked for in the class first.
        clock = self._clock
        now = clock()
        nbytes = 0
        for array in request.inputs.values():
            nbytes += array.nbytes
        if self._has_strings:
            nbytes = bytes_with_strings(request)
        limit_s = now + self.limits.timeout_s
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
        batcher, limits = self._batcher, self.limits
        if (
            len(batcher.queue) >= limits.max_waiting_requests
            or batcher.waiting_bytes + nbytes > limits.max_waiting_bytes
            or deadline <= now
            or batcher.backlog.per_job_s
            or self._quarantine.until
            or self.state == "failed"
        ):
            why_not = self._refusal(job, now)
            if why_not is not None:
                job.answer(why_not)
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
        if self.state == "failed":
            return Unavailable(f"Model '{self.name}' is not ready: its engine keeps failing.", code="MODEL_FAILED", retry_after_s=1.0)
        return refusal(self.name, job, now, self._batcher, self.limits, self._quarantine)

    def _account(self, protocol: str) -> ProtocolAccount:
        """Made once per protocol, so that a request costs no closure."""
        meter: Meter = self._around.meters.of(self.name, self.number, "", protocol)
        account = self._accounts[protocol] = ProtocolAccount(meter, self._around.clock, self._leases)
        return account

    def _expire(self, job: Job) -> None:
        job.answer(late(job))

    # Life

    async def open(self) -> None:
        """Load and warm; afterwards the state is ready or failed."""
        await self._staff.open()

    def retry_in_s(self) -> float:
        """How long a failed slot waits before it is tried again."""
        return self._staff.retry_in_s()

    def tick(self) -> None:
        """Several times a second."""
        self._watchdog.tick()

    def ping(self) -> None:
        """Every second."""
        if self.state == "ready":
            self._watchdog.ping()

    def drain(self, keep_s: float) -> None:
        """Nobody routes to this slot any more: stay loaded for a while, then close when the last lease is returned."""
        self.become("draining")
        self._draining = self.start(self._end_later(keep_s))

    def revive(self) -> bool:
        """Wanted again while it is kept: it answers at once. False when it cannot, and must be loaded anew."""
        if self.state != "draining" or not any(not lane.is_dead for lane in self._staff.crew):
            return False
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        self.become("ready")
        return True

    async def _end_later(self, keep_s: float) -> None:
        await asyncio.sleep(keep_s)
        await self._leases.returned()
        self.close()

    def close(self) -> None:
        if self.state == "closed":
            return
        self.become("closed")
        self._staff.dismiss()
        self._around.meters.forget(self.name, self.number)

    def become(self, state: str, error: str = "") -> None:
        is_leaving = self._draining is not None and state not in ("draining", "closed")
        if self.state == "closed" or is_leaving:
            # A worker replaced for the last leases of a slot that leaves does not make it stay.
            return
        self.state, self.error, self.since_s = state, error, self._around.clock()
        self._around.meters.set_ready(self.name, self.number, state == "ready")
        self.on_change(self)

    def tell(self, kind: str, details: dict[str, Any]) -> None:
        self._around.tell(kind, self, details)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._around.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _batcher(manifest: Manifest, limits: SlotLimits, around: Surroundings, meter: BatchMeter) -> Batcher:
    bounds: dict[str, Any] = {
        "max_rows": limits.max_batch,
        "max_bytes": around.lanes.batch_bytes(),
        "clock": around.clock,
        "loop": around.loop,
    }
    if manifest.batchable and manifest.padding:
        return PaddedBatcher(Plan(manifest), meter.observe_padding, **bounds)
    return Batcher(**bounds)
