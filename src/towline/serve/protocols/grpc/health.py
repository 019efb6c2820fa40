"""`grpc.health.v1.Health`: whether the server, one of its services or one of its models answers; watchers hear of every change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from typing import Any

from towline.core.errors import NotFound, Overloaded, Unavailable
from towline.serve.contract import DataPlane
from towline.serve.protocols.errors import printable
from towline.serve.protocols.grpc.calls import answering, read, refused
from towline.serve.protocols.grpc.contract import Call, Method, Refused, Stream
from towline.serve.protocols.grpc.descriptors_grpc import HEALTH
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import TF_SERVING as STATUSES

SERVICE = "grpc.health.v1.Health"
# Each costs a task for as long as its client likes.
MAX_WATCHERS = 256
_STATUS = HEALTH.enums["HealthCheckResponse.ServingStatus"]


class Health:
    """`changed` is to be called whenever a model's state changes; `drain` once, when the server begins to end."""

    def __init__(self, plane: DataPlane, services: Collection[str]) -> None:
        self._plane = plane
        self._services = frozenset(services)
        self._is_draining = False
        self._watchers: set[asyncio.Event] = set()

    def changed(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    def drain(self) -> None:
        self._is_draining = True
        self.changed()

    def status(self, name: str) -> str:
        """SERVING, NOT_SERVING, or SERVICE_UNKNOWN for a name that is no service and no model; "" is the server."""
        if not name or name in self._services:
            return "SERVING" if self._plane.is_ready() and not self._is_draining else "NOT_SERVING"
        try:
            self._plane.find(name)
        except NotFound:
            return "SERVICE_UNKNOWN"
        except Unavailable:
            return "NOT_SERVING"
        return "NOT_SERVING" if self._is_draining else "SERVING"

    def methods(self) -> dict[str, Method]:
        return {f"/{SERVICE}/Check": answering(f"{HEALTH.package}.HealthCheckRequest", STATUSES, self._check)}

    def streams(self) -> dict[str, Stream]:
        return {f"/{SERVICE}/Watch": Stream(self._watch, many_requests=False)}

    def _check(self, request: Any) -> Any:
        status = self.status(request.service)
        if status == "SERVICE_UNKNOWN":
            raise NotFound(f"There is no service and no model '{printable(request.service)}' here.", field="service")
        return _response(status)

    async def _watch(self, requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
        try:
            raw = await anext(aiter(requests), b"")
            name = read(MESSAGES[f"{HEALTH.package}.HealthCheckRequest"], raw).service
            if len(self._watchers) >= MAX_WATCHERS:
                raise Overloaded(f"{MAX_WATCHERS} calls watch already.", code="TOO_MANY_WATCHERS")
        except Exception as error:
            raise Refused(refused(error, STATUSES)) from None
        event = asyncio.Event()
        self._watchers.add(event)
        told = ""
        try:
            while True:
                event.clear()
                status = self.status(name)
                if status != told:
                    told = status
                    yield _response(status).SerializeToString()
                # A server that ends does not wait for those who only watch it.
                if self._is_draining:
                    return
                await event.wait()
        finally:
            self._watchers.discard(event)


def _response(status: str) -> Any:
    return MESSAGES[f"{HEALTH.package}.HealthCheckResponse"](status=_STATUS[status])
