"""The process that answers: one event loop with the listening socket, the data plane and the channel to the supervisor. Opens no store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from towline.core.config import Settings
from towline.core.cpu import usable_cores
from towline.core.errors import TowlineError
from towline.core.runtime import Runtime
from towline.serve.access import Doorman, RefreshedRing
from towline.serve.codecs.check import Limits
from towline.serve.contract import Route
from towline.serve.control import FrontControl
from towline.serve.dataplane import ServingPlane
from towline.serve.decoder.desk import Desk, DeskLimits
from towline.serve.grpc_port import GrpcPort
from towline.serve.http_server import HttpServer
from towline.serve.lanes import Lanes, ProcessLanes
from towline.serve.memory import available_memory_bytes
from towline.serve.protocols import grpcweb, health, repository, statistics
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.graphql import routes as graphql
from towline.serve.protocols.table import RouteTable
from towline.serve.reports import Reports
from towline.serve.router import wanted_from
from towline.serve.routes import inference_routes
from towline.serve.slots import Slot
from towline.serve.surroundings import Meters, SlotLimits, Surroundings
from towline.serve.workers.hub import Hub
from towline.serve.workers.pool import Pool
from towline.serve.workers.sizes import default_arena_size

log = logging.getLogger("towline.serve")

_TICK_S = 0.1
_SWEEP_EVERY_TICKS = 10
# A load may wait for another, be imported, and be loaded, each for at most the time that one takes to load.
_CONTROL_LOADS = 3
# So long those who come early wait in the kernel's queue for the models, rather than be told to come again.
_HOLD_S = 3.0


class Process(NamedTuple):
    """One process of this server, for its own accounts. Model and version are a worker's."""

    pid: int
    role: str
    model: str = ""
    version: str = ""


@dataclass(frozen=True)
class Parts:
    """What other rooms lend the front: where to count, how to print the counts, and lanes when there is no isolation."""

    meters: Meters
    exposition: Callable[[Sequence[Process]], bytes]
    inline_lanes: Callable[[asyncio.AbstractEventLoop], Lanes] | None = None
    routes: Callable[[ServingPlane, Limits], tuple[Route, ...]] | None = None
    ring: RefreshedRing | None = None
    # Model and version -> what was counted for it, for people.
    figures: Callable[[str, int], dict[str, Any]] = lambda model, number: {}


class Front:
    def __init__(self, settings: Settings, listener: socket.socket, channel_end: socket.socket, parts: Parts, *, force: bool) -> None:
        self._settings = settings
        self._listener = listener
        loop = asyncio.get_running_loop()
        self._may_accept = asyncio.Event()
        self._draining: asyncio.Future[None] | None = None
        self.hub = Hub(loop, channel_end, self._on_message, self._on_orphaned)
        self.pool = Pool(loop, self.hub, default_arena_size(settings.max_request_bytes))
        self._uses_workers = parts.inline_lanes is None
        lanes = parts.inline_lanes(loop) if parts.inline_lanes else self._process_lanes()
        around = Surroundings(
            loop, time.monotonic, lanes, parts.meters, self.hub.kill, self.hub.exit_of, available_memory_bytes, self._tell, force
        )
        self.plane = ServingPlane(around, SlotLimits.of(settings), keep_s=settings.keep_versions_s, on_state=self._models_changed)
        self.plane.are_ports_open = False
        self._reports = Reports(self.plane, self.hub.send, self._may_accept)
        self.control = FrontControl(
            self.plane,
            self.hub.send,
            is_allowed=settings.model_control == "explicit",
            timeout_s=_CONTROL_LOADS * settings.load_timeout_s,
            max_bytes=settings.max_waiting_bytes,
        )
        self._ring = parts.ring
        doorman = Doorman(parts.ring) if parts.ring is not None else None
        limits = Limits(settings.max_request_bytes, settings.max_batch, max_image_pixels=settings.max_image_pixels)
        self._grpc = GrpcPort(settings, self.plane, limits, doorman, self.control)
        self.gate = Gate(
            self._routes(parts, limits),
            settings,
            clock=time.monotonic,
            boot_id=os.urandom(4).hex(),
            doorman=doorman,
            refused=lambda code: parts.meters.of(None, protocol="http").count(code),
        )
        desk_limits = DeskLimits(limits, settings.max_waiting_bytes, settings.request_timeout_s)
        self._desk = self.gate.aside = Desk(self.plane, desk_limits, self.gate.handle, compat=settings.compat)
        self.server = HttpServer(self.gate, drain_timeout_s=settings.drain_timeout_s)

    def _process_lanes(self) -> ProcessLanes:
        settings = self._settings
        said = Runtime(threads=settings.threads, runs=settings.runs)
        return ProcessLanes(self.pool, device=settings.device, load_timeout_s=settings.load_timeout_s, cores=usable_cores(), said=said)

    def _routes(self, parts: Parts, limits: Limits) -> RouteTable:
        # Before the protocol whose paths they extend, for it refuses all others under /v2.
        extending = [*repository.routes(self.control, limits), *statistics.routes(self.plane, self.control, limits)]
        own = inference_routes(self.plane, limits, compat=self._settings.compat)
        more = parts.routes(self.plane, limits) if parts.routes else ()
        asked = graphql.routes(self.plane, limits, parts.figures)
        web = grpcweb.routes(lambda: self._grpc.service.methods, limits)
        return RouteTable(
            [*health.routes(self.plane, health.Scrape(lambda: parts.exposition(self._processes()))), *extending, *own, *asked, *more, *web]
        )

    def _processes(self) -> list[Process]:
        workers = [Process(pid, "worker", slot.name, str(slot.number)) for slot in self.plane.slots() for pid in slot.pids]
        decoder = [Process(self._desk.pid, "decoder")] if self._desk.pid else []
        return [Process(os.getppid(), "supervisor"), Process(os.getpid(), "front"), *decoder, *workers]

    async def run(self) -> None:
        """Until drained."""
        if self._uses_workers:
            self.pool.keep_spare()
        tasks = [asyncio.ensure_future(self._keep_time()), asyncio.ensure_future(self.plane.tick_forever())]
        for task in tasks:
            task.add_done_callback(_end_without)
        self.hub.send({"to": "controller", "do": "front-started"})
        # What uvicorn imports at its own start, before the first answer waits for it.
        self.server.config.load()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._may_accept.wait(), _HOLD_S)
        host = self._listener.getsockname()[0]
        answering = asyncio.ensure_future(self.server.serve([self._listener]))
        await self._open_grpc(host)
        self.plane.are_ports_open = True
        self._models_changed()
        await answering
        await self._grpc.ended()
        for task in tasks:
            task.cancel()
        await self._desk.ended()
        self.plane.close()
        self.pool.close()

    async def _open_grpc(self, host: str) -> None:
        """Without its port a server does not start; one that answers goes on."""
        try:
            await self._grpc.open(host)
        except TowlineError as error:
            log.error("gRPC is not served: %s", error)
            self.hub.send({"to": "supervisor", "do": "fatal", "error": error.message, "hint": error.hint, "exit_code": 2})

    async def _keep_time(self) -> None:
        ticks = 0
        while True:
            self.gate.tick(time.time())
            if ticks % _SWEEP_EVERY_TICKS == 0:
                self.gate.sweep()
                self._look_at_keys()
            ticks += 1
            await asyncio.sleep(_TICK_S)

    def _look_at_keys(self) -> None:
        try:
            if self._ring is not None and self._ring.refresh():
                self.gate.forget_heads()
        except TowlineError as error:
            log.error("%s The keys read before stay in force.", error)

    # From the supervisor and the controller

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        match message.get("do"):
            case "table":
                models = [wanted_from(model, follows_tuning=self._settings.follow_tuning) for model in message["models"]]
                self.plane.want(models, is_complete=message["complete"])
                self.control.know(message["stored"])
                self.pool.keep_adopted({version.digest for model in models for version in model.versions})
                self._models_changed()
            case "control-heard" | "control-answer":
                self.control.on_message(message)
            case "report":
                self._reports.now()
            case "adopt":
                self.pool.adopt(message, descriptors)
            case "drain":
                self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        """Readiness off, take in who has connected already, answer what is there, stop."""
        self.plane.is_draining = self.gate.is_draining = True
        # From now on the kernel queues no further connections; those it holds are accepted in the next turns of the loop.
        self._listener.listen(0)
        self._grpc.drain()
        self._may_accept.set()
        await asyncio.sleep(0.05)
        self.server.should_exit = True

    def _on_orphaned(self) -> None:
        # Before it was ready, the supervisor ended on purpose and has said why.
        if self._reports.was_ready:
            log.error("the supervisor is gone")
        os._exit(1)

    # To the controller

    def _tell(self, kind: str, slot: Slot, details: dict[str, Any]) -> None:
        self.hub.send({"to": "controller", "do": "event", "kind": kind, "name": slot.name, "digest": slot.digest, "data": details})

    def _models_changed(self) -> None:
        self._grpc.models_changed()
        self._reports.soon()


def _end_without(task: asyncio.Task[None]) -> None:
    """Without its clock a front would answer until the first thing that hangs. The supervisor starts a sound one."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("the front's clock failed and the front ends", exc_info=task.exception())
        os._exit(1)
