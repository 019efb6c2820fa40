"""The data plane inside somebody else's process and event loop: the same slots, batches and protocols, without supervisor or store."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from towline.core.config import Settings
from towline.core.cpu import usable_cores
from towline.core.errors import TowlineError, Unavailable, VersionError
from towline.core.inference import Request, Response
from towline.core.runtime import Runtime
from towline.serve.access import Doorman, Ring
from towline.serve.codecs.check import Limits
from towline.serve.contract import Served
from towline.serve.dataplane import ServingPlane
from towline.serve.lanes import Lanes, ProcessLanes
from towline.serve.memory import available_memory_bytes
from towline.serve.protocols import health
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.table import RouteTable
from towline.serve.router import WantedModel
from towline.serve.routes import model_routes
from towline.serve.slots import Slot
from towline.serve.surroundings import Meters, SlotLimits, Surroundings
from towline.serve.workers.children import Children
from towline.serve.workers.pool import Pool
from towline.serve.workers.sizes import default_arena_size

log = logging.getLogger("towline.serve")


_KEYS_EVERY_S = 1.0
_LOOK_S = 0.02


class RefreshedRing(Ring, Protocol):
    def refresh(self) -> bool:
        """Look at the file again. Raises TowlineError when it cannot be used."""
        ...


@dataclass(frozen=True)
class Lent:
    """What other rooms lend: where to count, how to print it for `/metrics` (given the workers), lanes without isolation, keys."""

    meters: Meters
    exposition: Callable[[Sequence[Slot]], bytes]
    inline_lanes: Callable[[asyncio.AbstractEventLoop], Lanes] | None = None
    ring: RefreshedRing | None = None


class Embedded:
    """Made, started and stopped on the event loop that asks it. `gate` has the routes."""

    def __init__(self, settings: Settings, lent: Lent) -> None:
        self._settings = settings
        loop = asyncio.get_running_loop()
        self._children = Children(loop)
        self._pool = Pool(loop, self._children, default_arena_size(settings.max_request_bytes))
        lanes: Lanes = lent.inline_lanes(loop) if lent.inline_lanes else self._process_lanes()
        around = Surroundings(
            loop, time.monotonic, lanes, lent.meters, self._children.kill, self._children.exit_of, available_memory_bytes, _tell
        )
        self.plane = ServingPlane(around, SlotLimits.of(settings), keep_s=0.0, on_state=self._on_state)
        limits = Limits(settings.max_request_bytes, settings.max_batch, max_image_pixels=settings.max_image_pixels)
        probes = health.routes(self.plane, lambda: lent.exposition(self.plane.slots()))
        doorman = Doorman(lent.ring) if lent.ring is not None else None
        routes = RouteTable([*probes, *model_routes(self.plane, limits)])
        self.gate = Gate(
            routes,
            settings,
            clock=time.monotonic,
            boot_id=os.urandom(4).hex(),
            doorman=doorman,
            refused=lambda code: lent.meters.of(None, protocol="http").count(code),
        )
        self._changed = asyncio.Event()
        self._ring = lent.ring
        self._tasks: list[asyncio.Task[None]] = []

    def _process_lanes(self) -> ProcessLanes:
        settings = self._settings
        said = Runtime(threads=settings.threads, runs=settings.runs)
        return ProcessLanes(self._pool, device=settings.device, load_timeout_s=settings.load_timeout_s, cores=usable_cores(), said=said)

    async def start(self, models: list[WantedModel]) -> None:
        """Returns once all of them answer. Raises VersionError with the reason why one does not, Unavailable when that takes too long."""
        self._tasks = [asyncio.ensure_future(work) for work in (self.plane.tick_forever(), self._watch_keys())]
        await self.want(models)

    async def want(self, models: list[WantedModel]) -> None:
        """Answer for these from now on, and for no others. Returns and raises as `start` does."""
        self.plane.want(models)
        try:
            async with asyncio.timeout(self._settings.load_timeout_s * max(1, len(models))):
                while not self.plane.is_ready():
                    self._changed.clear()
                    failed = next((slot for slot in self.plane.slots() if slot.state == "failed"), None)
                    if failed is not None:
                        raise VersionError(f"{failed.name}:{failed.number} is not ready: {failed.error}")
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"Not ready in time: {', '.join(self.plane.not_ready())}.", code="LOAD_TIMEOUT") from None

    async def settle(self) -> None:
        """Wait until no more workers are to come: those beside the first of a version, and the spare one. Raises Unavailable."""
        try:
            async with asyncio.timeout(self._settings.load_timeout_s):
                await self._pool.spare_is_born()
                while any(slot.lanes_to_come for slot in self.plane.slots()):
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise Unavailable("Not all workers came in time.", code="LOAD_TIMEOUT") from None

    async def infer(self, served: Served, request: Request) -> Response:
        """The answer to one request, with arrays that are the caller's. Cancelled, the work is given up."""
        replied: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def done(result: Response | TowlineError) -> None:
            if replied.done():
                return
            if isinstance(result, TowlineError):
                replied.set_exception(result)
            else:
                owned = {name: np.array(array) for name, array in result.outputs.items()}
                replied.set_result(Response(owned, result.name, result.number))

        cancel = self.plane.infer(served, request, done, protocol="python")
        try:
            return await replied
        except asyncio.CancelledError:
            cancel()
            raise

    async def stop(self) -> None:
        """Take no more, answer what is there, end the workers."""
        self.plane.is_draining = True
        until_s = time.monotonic() + self._settings.drain_timeout_s
        while self.plane.leases() and time.monotonic() < until_s:
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        self.plane.close()
        self._pool.close()
        await self._children.close()

    async def _watch_keys(self) -> None:
        while self._ring is not None:
            await asyncio.sleep(_KEYS_EVERY_S)
            try:
                self._ring.refresh()
            except TowlineError as error:
                log.error("%s", error)

    def _on_state(self) -> None:
        self._changed.set()


def _tell(kind: str, slot: Slot, details: dict[str, Any]) -> None:
    """There is no store here to keep events; the log has them."""
    log.warning("%s of %s:%s: %s", kind, slot.name, slot.number, details)
