"""Press gRPC requests on a server: the same loops as for HTTP, on grpc.aio. Messages are bytes, encoded beforehand."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import grpc

from towline.core.errors import DeadlineExceeded, InvalidRequest, Kind, NotFound, TowlineError, Unreachable
from towline.verify.load.job import Endpoint, Job
from towline.verify.load.link import LinkFailed
from towline.verify.load.meter import Meter

OPEN_TIMEOUT_S = 10.0
# Servers allow about a hundred calls at once on a connection.
CALLS_PER_CHANNEL = 32
MAX_MESSAGE_BYTES = 1 << 30
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Without it, channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
_KINDS = {
    grpc.StatusCode.INVALID_ARGUMENT: Kind.INVALID,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Kind.EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED: Kind.DENIED,
    grpc.StatusCode.PERMISSION_DENIED: Kind.DENIED,
}


class GrpcLoad:
    """`open` connects; then `run` until `stop` becomes readable. Raises LinkFailed from `open` only."""

    def __init__(self, job: Job, due: Iterator[int] | None, stop: int) -> None:
        self._job = job
        self._due = due
        self._stop = stop
        self._requests = cycle(job.requests)
        # select waits in microseconds, epoll in milliseconds; there are few descriptors, gRPC has its own.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._begun: dict[int, int] = {}
        self._backlog: deque[int] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self._calls: list[Any] = []
        self._channels: list[Any] = []

    def open(self) -> None:
        self._loop.run_until_complete(self._open())

    def run(self, start_ns: int, meter: Meter) -> None:
        self._meter = meter
        self._loop.run_until_complete(self._run(start_ns))

    def waiting_since(self) -> Iterator[int]:
        """When the requests that have no answer yet began, or were due."""
        yield from self._begun.values()
        yield from self._backlog

    def close(self) -> None:
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _open(self) -> None:
        endpoint = self._job.endpoint
        for _ in range(-(-self._job.pace.clients // CALLS_PER_CHANNEL)):
            if endpoint.is_tls:
                channel = grpc.aio.secure_channel(endpoint.authority, grpc.ssl_channel_credentials(), options=_OPTIONS)
            else:
                channel = grpc.aio.insecure_channel(endpoint.authority, options=_OPTIONS)
            self._channels.append(channel)
            try:
                await asyncio.wait_for(channel.channel_ready(), OPEN_TIMEOUT_S)
            except TimeoutError as error:
                raise LinkFailed("no connection in time") from error
            self._calls.append(channel.unary_unary(endpoint.method))

    async def _run(self, start_ns: int) -> None:
        ended = self._loop.create_future()
        self._loop.add_reader(self._stop, ended.cancel)
        await asyncio.sleep(max(0, start_ns - time.monotonic_ns()) / 1e9)
        self._spawn(self._cut_windows())
        if self._due is None:
            for _ in range(self._job.pace.clients):
                self._spawn(self._client())
        else:
            self._free = self._job.pace.clients
            self._spawn(self._arrive(start_ns, self._due))
        await asyncio.wait([ended])

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        # The loop itself keeps no task alive.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cut_windows(self) -> None:
        while True:
            await asyncio.sleep(max(0, self._meter.next_cut_ns - time.monotonic_ns()) / 1e9)
            now_ns = time.monotonic_ns()
            if now_ns >= self._meter.next_cut_ns:
                self._meter.cut(now_ns)

    async def _client(self) -> None:
        while True:
            if not await self._ask(time.monotonic_ns()):
                # A server that refuses is not to be drowned in attempts.
                await asyncio.sleep(0.02)

    async def _arrive(self, start_ns: int, due: Iterator[int]) -> None:
        for at_ns in due:
            while (early_ns := start_ns + at_ns - time.monotonic_ns()) > 0:
                await asyncio.sleep(early_ns / 1e9)
            if self._free:
                self._free -= 1
                self._spawn(self._serve(start_ns + at_ns))
            else:
                self._backlog.append(start_ns + at_ns)

    async def _serve(self, since_ns: int) -> None:
        """One arrival, then those that wait for a call to be free."""
        await self._ask(since_ns)
        while self._backlog:
            since_ns = self._backlog.popleft()
            if time.monotonic_ns() - since_ns > self._job.timeout_s * 1e9:
                self._meter.failed("timeout")
            else:
                await self._ask(since_ns)
        self._free += 1

    async def _ask(self, since_ns: int) -> bool:
        self._number = number = self._number + 1
        self._begun[number] = since_ns
        call = self._calls[number % len(self._calls)]
        try:
            await call(next(self._requests), timeout=self._job.timeout_s, metadata=self._job.endpoint.metadata)
        except grpc.aio.AioRpcError as error:
            late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            self._meter.failed("timeout" if late else f"gRPC {error.code().name}")
            return False
        finally:
            del self._begun[number]
        self._meter.answered(time.monotonic_ns() - since_ns)
        return True


def ask(endpoint: Endpoint, method: str, message: bytes, *, timeout_s: float) -> bytes:
    """One call, and its answer. Raises the error that the status stands for; Unreachable when nobody answers."""
    if endpoint.is_tls:
        channel = grpc.secure_channel(endpoint.authority, grpc.ssl_channel_credentials(), options=_OPTIONS)
    else:
        channel = grpc.insecure_channel(endpoint.authority, options=_OPTIONS)
    with channel:
        try:
            answer: bytes = channel.unary_unary(method)(message, timeout=timeout_s, metadata=endpoint.metadata)
            return answer
        except grpc.RpcError as error:
            raise _error_of(error, endpoint, timeout_s) from error


def _error_of(error: Any, endpoint: Endpoint, timeout_s: float) -> TowlineError:
    code, told = error.code(), str(error.details())[:2048]
    if code == grpc.StatusCode.UNAVAILABLE:
        return Unreachable(f"Nobody answers gRPC at {endpoint.authority}.", hint="'towline ps' shows where servers of this machine listen.")
    if code == grpc.StatusCode.NOT_FOUND:
        return NotFound(told)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{endpoint.authority} did not answer within {timeout_s:g} s.", hint="Give it longer: --timeout.")
    return InvalidRequest(f"gRPC {code.name}: {told}", kind=_KINDS.get(code, Kind.INTERNAL))
