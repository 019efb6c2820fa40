"""The gRPC server on pygrpc-native: calls come from threads in Rust and go on in batches; streams go to grpc.aio behind it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pygrpc_native import EVENT_CANCEL, NativeGrpcFront

from towline.serve.protocols.grpc.addresses import target_of
from towline.serve.protocols.grpc.contract import Call, Cancel, Code, Refusal, echoed, joined
from towline.serve.protocols.grpc.server import ENVELOPE_BYTES, MS, Bounds, GrpcServer, port_in_use
from towline.serve.protocols.grpc.service import Service

# What one trip into the event loop brings at most; the next follows at once.
_MAX_EVENTS = 256
# How long the last answers get to be written before connections are closed.
_WRITE_S = 0.3


class NativeGrpcServer:
    """As GrpcServer, from which it differs as docs/reference/protocols/grpc.md says: a message is all there before its size is known."""

    def __init__(self, service: Service, bounds: Bounds) -> None:
        self._bounds = bounds
        self._methods = list(service.methods.unary.items())
        # All that streams, and what there is not: on a Unix socket that nobody else may open.
        self._behind = GrpcServer(service, bounds)
        self._folder = ""
        self._front: NativeGrpcFront | None = None
        self._loop = asyncio.get_running_loop()
        # What gives a call up, by the call's number, until it is answered.
        self._open: dict[int, Cancel | None] = {}
        self._is_idle = asyncio.Event()
        self._is_stopping = False

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises TowlineError when the address cannot be used."""
        bounds = self._bounds
        try:
            front = NativeGrpcFront(
                target_of(host, port),
                [(path, False) for path, _ in self._methods],
                # One reads and writes as fast as one event loop asks and answers.
                io_threads=1,
                call_details=True,
                keepalive_time_ms=int(bounds.ping_after_s * MS),
                keepalive_timeout_ms=int(bounds.ping_timeout_s * MS),
                max_concurrent_streams=bounds.max_streams_per_connection,
                max_metadata_size=bounds.max_metadata_bytes,
                reuse_port=True,
            )
        except OSError:
            raise port_in_use(host, port) from None
        self._folder = tempfile.mkdtemp(prefix="towline-grpc-")
        path = str(Path(self._folder) / "streams")
        await self._behind.listen(path)
        front.set_fallback(path)
        front.start()
        self._front = front
        threading.Thread(target=self._receive, args=(front,), name="grpc-native", daemon=True).start()
        return front.bound_port

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, answer those that are there, for at most `grace_s` seconds."""
        self._is_stopping = True
        behind = asyncio.ensure_future(self._behind.stop(grace_s))
        if self._open:
            self._is_idle.clear()
            await asyncio.wait([asyncio.ensure_future(self._is_idle.wait())], timeout=grace_s)
        left, self._open = self._open, {}
        for cancel in left.values():
            if cancel is not None:
                cancel()
        await behind
        # It cannot say when an answer is out, and closing cuts off those that are on their way.
        await asyncio.sleep(min(_WRITE_S, grace_s))
        if self._front is not None:
            # Waits for its threads.
            await asyncio.to_thread(self._front.close)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _receive(self, front: NativeGrpcFront) -> None:
        """The thread between: what came while the loop was busy goes to it as one."""
        while (events := front.recv_batch_details(_MAX_EVENTS)) is not None:
            try:
                self._loop.call_soon_threadsafe(self._on_events, front, events)
            except RuntimeError:
                # The loop has ended without `stop`.
                front.close()
                return

    def _on_events(self, front: NativeGrpcFront, events: list[Any]) -> None:
        now = time.monotonic()
        for kind, number, method, payload, _, details in events:
            if kind == EVENT_CANCEL:
                cancel = self._open.pop(number, None)
                if cancel is not None:
                    cancel()
                self._check_idle()
            else:
                self._start(front, number, method, payload, details, now)

    def _start(self, front: NativeGrpcFront, number: int, method: int, payload: bytes, details: Any, now: float) -> None:
        refusal = self._refusal(len(payload))
        if refusal is not None:
            front.fail(number, refusal.code, refusal.message)
            return
        pairs, peer, left_s = details
        call = Call(now, None if left_s is None else now + left_s, joined(pairs), peer)
        self._open[number] = None

        def reply(result: bytes | Refusal) -> None:
            if number not in self._open:
                return
            del self._open[number]
            echo = echoed(call.metadata)
            if isinstance(result, Refusal):
                front.fail(number, result.code, result.message, [*result.trailers, *echo])
            else:
                front.respond(number, result, None, echo or None)
            self._check_idle()

        cancel = self._methods[method][1](payload, call, reply)
        if number in self._open:
            self._open[number] = cancel

    def _refusal(self, size: int) -> Refusal | None:
        if self._is_stopping:
            return Refusal(Code.UNAVAILABLE, "The server is stopping.")
        limit = self._bounds.max_request_bytes + ENVELOPE_BYTES
        if size > limit:
            return Refusal(Code.RESOURCE_EXHAUSTED, f"The message has {size} bytes; the limit is {limit}.")
        if len(self._open) >= self._bounds.max_calls:
            return Refusal(Code.RESOURCE_EXHAUSTED, f"{self._bounds.max_calls} calls are open already.")
        return None

    def _check_idle(self) -> None:
        if not self._open:
            self._is_idle.set()
