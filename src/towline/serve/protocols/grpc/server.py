"""The gRPC server inside the front, on grpc.aio: its limits, its address, and how it ends without losing a call."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Protocol

from towline.core.errors import TowlineError

# Before its import: the C library writes what strangers send it to stderr, unescaped and unbounded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

from towline.serve.protocols.grpc import aio
from towline.serve.protocols.grpc.addresses import hosts_for, target_of
from towline.serve.protocols.grpc.service import Service

# A message of exactly the limit must pass: the tensors are counted by it, names and shapes are beside them.
ENVELOPE_BYTES = 64 << 10
MS = 1000


@dataclass(frozen=True)
class Bounds:
    """What one server lets its clients do. Sizes in bytes, times in seconds."""

    max_request_bytes: int
    max_metadata_bytes: int = 16 << 10
    max_calls: int = 8192
    max_connections: int = 1024
    max_streams_per_connection: int = 1024
    # A peer that answers no ping for so long is gone, and its calls are given up.
    ping_after_s: float = 60.0
    ping_timeout_s: float = 20.0
    # Clients may ping this often without a call; who does more is shown the door.
    min_ping_pause_s: float = 10.0


class Server(Protocol):
    """What a front needs of a gRPC server. Made on its event loop. `start`, then `stop` once."""

    async def start(self, host: str, port: int) -> int: ...

    async def stop(self, grace_s: float) -> None: ...


def server_for(kind: str, service: Service, bounds: Bounds) -> Server:
    """`kind` is that of the setting `grpc_server`."""
    if kind == "native":
        from towline.serve.protocols.grpc.native import NativeGrpcServer

        return NativeGrpcServer(service, bounds)
    return GrpcServer(service, bounds)


class GrpcServer:
    """On grpc.aio."""

    def __init__(self, service: Service, bounds: Bounds) -> None:
        self._service = service
        self._server = grpc.aio.server(options=_options(bounds), maximum_concurrent_rpcs=bounds.max_calls)
        self._server.add_generic_rpc_handlers(aio.handlers(service.methods))

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises TowlineError when the address cannot be used."""
        for address in hosts_for(host):
            # The first may be given a free port; all others share it.
            bound = self._bind(target_of(address, port))
            if not bound:
                raise port_in_use(address, port)
            port = bound
        await self._server.start()
        return port

    async def listen(self, path: str) -> None:
        """Listen on a Unix socket. Raises TowlineError when there can be none, as in a folder whose name is too long."""
        if not self._bind(f"unix:{path}"):
            raise TowlineError(
                "gRPC cannot make its socket in the temporary folder: its name is too long.",
                code="SOCKET_UNUSABLE",
                hint="Start it with a shorter one: TMPDIR=/tmp",
            )
        await self._server.start()

    def _bind(self, target: str) -> int:
        """The port, 0 when it cannot be used."""
        try:
            bound: int = self._server.add_insecure_port(target)
        except RuntimeError:
            return 0
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, answer those that are there, for at most `grace_s` seconds."""
        self._service.drain()
        # One turn of the loop, so that watchers hear of it while the server still writes.
        await asyncio.sleep(0)
        await self._server.stop(grace_s)


def port_in_use(host: str, port: int) -> TowlineError:
    return TowlineError(f"gRPC cannot listen on port {port} of {host}.", code="PORT_IN_USE", hint="Take another: --grpc-port 0")


def _options(bounds: Bounds) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", bounds.max_request_bytes + ENVELOPE_BYTES),
        # An answer is as large as the model makes it; the client has a limit of its own.
        ("grpc.max_send_message_length", -1),
        # Equal, for between them calls are refused at random.
        ("grpc.max_metadata_size", bounds.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", bounds.max_metadata_bytes),
        ("grpc.max_allowed_incoming_connections", bounds.max_connections),
        ("grpc.max_concurrent_streams", bounds.max_streams_per_connection),
        ("grpc.keepalive_time_ms", int(bounds.ping_after_s * MS)),
        ("grpc.keepalive_timeout_ms", int(bounds.ping_timeout_s * MS)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(bounds.min_ping_pause_s * MS)),
        # The port is reserved by a socket of app/serving/serve.py that never listens: a front that is replaced finds it free.
        ("grpc.so_reuseport", 1),
    ]
