"""Open the workers of one slot, as far as there is memory for them, and another in the place of each that dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from towline.core.errors import TowlineError, Unavailable
from towline.core.manifest import Manifest
from towline.serve import recovery
from towline.serve.aftermath import Aftermath
from towline.serve.batcher import Batcher
from towline.serve.crew import Crew
from towline.serve.delivery import Delivery
from towline.serve.lanes import Lane
from towline.serve.quarantine import Quarantine
from towline.serve.router import WantedVersion
from towline.serve.surroundings import SlotLimits, Surroundings
from towline.serve.trials import Trial

log = logging.getLogger("towline.serve")


class Owner(Protocol):
    """Whose workers they are."""

    state: str
    limits: SlotLimits

    def become(self, state: str, error: str = "") -> None: ...

    def aim(self) -> None:
        """The crew has grown."""
        ...

    def tell(self, kind: str, details: dict[str, Any]) -> None:
        """Something happened that is to be recorded."""
        ...

    def start(self, work: Coroutine[Any, Any, None]) -> object:
        """As a task that is kept until it ends."""
        ...


class Staffing:
    """Of one slot, which is told to `become` what follows."""

    def __init__(
        self, owner: Owner, version: WantedVersion, manifest: Manifest, around: Surroundings, batcher: Batcher, delivery: Delivery
    ) -> None:
        self.crew = Crew()
        self.quarantine = Quarantine(around.clock)
        # Further workers that are being opened beside those that answer.
        self.lanes_to_come = 0
        # It was ready once, lost its worker, and could not get another yet.
        self.is_bereaved = False
        self._owner = owner
        self._version = version
        self._manifest = manifest
        self._around = around
        self._batcher = batcher
        self._delivery = delivery
        self._failures = 0
        self._aftermath = Aftermath(
            version,
            around,
            batcher,
            self.quarantine,
            tell=owner.tell,
            may_run_again=delivery.may_run_again,
            new_trial=lambda: Trial(version, manifest, delivery.expected, around),
        )

    @property
    def _name(self) -> str:
        return f"{self._version.name}:{self._version.number}"

    async def open(self) -> None:
        """Load and warm; afterwards the owner is ready or failed."""
        measured = self._manifest.measured
        needed = max(measured.memory_loaded_bytes, measured.memory_peak_bytes)
        available = self._around.available_memory_bytes()
        if not self._around.force and not recovery.fits(needed_bytes=needed, available_bytes=available):
            free = (available or 0) >> 20
            self._fail(f"It needs {needed >> 20} MiB as measured at import, {free} MiB are free. Free memory, or serve with --force.")
            return
        self._owner.become("loading")
        if await self._open_lane():
            for _ in range(self._owner.limits.instances - 1):
                self.lanes_to_come += 1
                self._owner.start(self._add_lane(needed))

    async def _add_lane(self, needed_bytes: int) -> None:
        """One more worker beside those that answer already; without room for it the slot goes on with fewer."""
        available = self._around.available_memory_bytes()
        try:
            if self._around.force or recovery.fits(needed_bytes=needed_bytes, available_bytes=available):
                await self._open_lane()
            else:
                log.warning("%s runs in fewer workers than it may: there is no memory for one more", self._name)
        finally:
            self.lanes_to_come -= 1

    async def _open_lane(self) -> bool:
        """Whether there is a lane to run on now."""
        try:
            lane = await self._around.lanes.open(self._version, self._manifest, self._become_while_opening)
        except TowlineError as error:
            if self.crew:
                log.warning("a further worker of %s is not ready: %s", self._name, error)
                return True
            self._fail(error.message)
            return False
        if self._owner.state == "closed":
            self._around.lanes.end(lane)
            return False
        lane.on_batch = self._delivery.deliver
        lane.on_part = self._delivery.pass_on
        lane.on_death = self._on_death
        self.crew.join(lane)
        self._batcher.lane = self.crew.lane
        self._owner.aim()
        self._failures = 0
        self.is_bereaved = False
        if self._owner.state != "ready":
            self._owner.become("ready")
        if lane.is_dead:
            # Between its last answer and now, when nobody listened.
            self._on_death(lane)
        self._batcher.flush()
        return True

    def _become_while_opening(self, state: str) -> None:
        """A slot that answers goes on answering while another worker is loaded."""
        if not self.crew:
            self._owner.become(state)

    def _fail(self, why: str) -> None:
        self._failures += 1
        self._owner.become("failed", why)
        lost = Unavailable(f"Model '{self._version.name}' could not be loaded.", code="MODEL_FAILED", retry_after_s=1.0)
        self._batcher.fail_all(lost)

    def retry_in_s(self) -> float:
        """How long a failed slot waits before it is tried again."""
        return recovery.back_off_s(self._failures)

    def _on_death(self, lane: Lane) -> None:
        self.crew.leave(lane)
        self._batcher.lane = self.crew.lane
        # One that only hung up, or answered nonsense, would go on running.
        self._around.kill(lane.pid)
        if self._owner.state == "closed":
            return
        self._around.meters.worker_restarted(self._version.name, self._version.number)
        self.is_bereaved = not self.crew
        reopening = asyncio.ensure_future(self._open_lane())
        self._owner.start(self._aftermath.settle(lane.pid, lane.running, reopening))

    def dismiss(self) -> None:
        """End them all, and replace none."""
        self._batcher.lane = None
        self._batcher.fail_all(Unavailable("The server is stopping.", code="STOPPING"))
        for lane in self.crew:
            lane.on_death = lambda lane: None
            self._around.lanes.end(lane)
