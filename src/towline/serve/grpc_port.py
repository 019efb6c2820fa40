"""What is served over gRPC and gRPC-Web, and the port of the first. Imported late: a server without them pays nothing for protobuf."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from towline.core.config import NO_PORT, Settings
from towline.serve.access import Doorman
from towline.serve.codecs.check import Limits
from towline.serve.control import FrontControl
from towline.serve.dataplane import ServingPlane

if TYPE_CHECKING:
    from towline.serve.protocols.grpc.server import Server
    from towline.serve.protocols.grpc.service import Service


class GrpcPort:
    """Opened once HTTP answers, and drained with it; the service is there for gRPC-Web too, whether or not the port is."""

    def __init__(self, settings: Settings, plane: ServingPlane, limits: Limits, doorman: Doorman | None, control: FrontControl) -> None:
        self._settings = settings
        self._plane = plane
        self._limits = limits
        self._doorman = doorman
        self._control = control
        self._service: Service | None = None
        self._server: Server | None = None
        self._is_draining = False
        self._end: asyncio.Future[None] | None = None

    @property
    def service(self) -> Service:
        """Made when first asked for."""
        if self._service is None:
            from towline.serve.protocols.grpc.service import Service

            self._service = Service(self._plane, self._limits, self._doorman.check_call if self._doorman else None, self._control)
        return self._service

    def models_changed(self) -> None:
        """Whoever watches health is told."""
        if self._service is not None:
            self._service.changed()

    async def open(self, host: str) -> None:
        """Listen beside HTTP, unless it is off or the server drains already. Raises TowlineError when the port cannot be had."""
        if self._settings.grpc_port == NO_PORT:
            return
        # Late, as the first answer does not need it; in a thread, as requests are answered meanwhile.
        await asyncio.to_thread(importlib.import_module, "towline.serve.protocols.grpc.server")
        from towline.serve.protocols.grpc.server import Bounds, server_for

        if self._is_draining:
            return
        most = self._settings.max_connections
        # One connection carries many calls, so that a part of them is enough, and HTTP's descriptors stay its own.
        bounds = Bounds(self._settings.max_request_bytes, max_calls=most, max_connections=max(1, most // 8))
        server = server_for(self._settings.grpc_server, self.service, bounds)
        await server.start(host, self._settings.grpc_port)
        self._server = server

    def drain(self) -> None:
        """Not ready any more; answer what is there, and close."""
        self._is_draining = True
        if self._service is not None:
            self._service.drain()
        if self._server is not None:
            self._end = asyncio.ensure_future(self._server.stop(self._settings.drain_timeout_s))

    async def ended(self) -> None:
        """Wait until all of it is answered, where it was drained."""
        if self._end is not None:
            await self._end
