"""What a load generator's process is told to do, and what it tells back: a line of JSON, then raw bytes. Pure."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import BinaryIO

HTTP, GRPC = "http", "grpc"
CONSTANT, POISSON = "constant", "poisson"
# Latencies and ages travel as these: signed, 64 bits, nanoseconds, in this machine's byte order.
NANOSECONDS = "q"
MAX_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class Endpoint:
    """Where requests go. `method` is gRPC's `/package.Service/Method`, empty for HTTP, whose requests are whole messages."""

    transport: str
    host: str
    port: int
    is_tls: bool = False
    method: str = ""
    # gRPC only: what HTTP has in its request's head. Never part of a command line, for it may hold a key.
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Pace:
    """How hard to press. Closed loop (`rate` 0): each of `clients` sends when its last request is answered.

    Open loop: `rate` requests a second begin at times fixed beforehand, on at most `clients` connections.
    """

    clients: int
    rate: float = 0.0
    arrivals: str = CONSTANT
    seed: int = 0

    @property
    def is_open(self) -> bool:
        return self.rate > 0


@dataclass(frozen=True)
class Job:
    """One process's share of a load. Requests are sent in turn; times in seconds."""

    endpoint: Endpoint
    pace: Pace
    requests: tuple[bytes, ...]
    timeout_s: float
    warmup_s: float
    window_s: float


@dataclass(frozen=True)
class Window:
    """What one process, or all together, saw between two moments of the monotonic clock.

    `latencies_ns` are of requests answered in it; `waiting_ns` the ages of those begun (open loop: due) and not answered at its
    end. `cpu_s` is what the generator used, `starved_s` what it waited for a processor, `busiest` the largest share of the
    window that any of its processes spent so.
    """

    began_s: float
    ended_s: float
    latencies_ns: array[int]
    waiting_ns: array[int]
    errors: dict[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0
    starved_s: float = 0.0
    busiest: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s


def encode_job(job: Job) -> bytes:
    head = {**asdict(job), "requests": [len(request) for request in job.requests]}
    return b"".join([json.dumps(head).encode(), b"\n", *job.requests])


def read_job(stream: BinaryIO) -> Job:
    head = json.loads(stream.readline(MAX_HEAD_BYTES))
    metadata = tuple((str(name), str(value)) for name, value in head["endpoint"].pop("metadata"))
    requests = tuple(stream.read(size) for size in head.pop("requests"))
    return Job(**{**head, "endpoint": Endpoint(**head["endpoint"], metadata=metadata), "pace": Pace(**head["pace"]), "requests": requests})


def encode_window(window: Window) -> bytes:
    head = {
        "began_s": window.began_s,
        "ended_s": window.ended_s,
        "errors": window.errors,
        "cpu_s": window.cpu_s,
        "starved_s": window.starved_s,
        "busiest": window.busiest,
        "sizes": [len(window.latencies_ns), len(window.waiting_ns)],
    }
    return b"".join([json.dumps(head).encode(), b"\n", window.latencies_ns.tobytes(), window.waiting_ns.tobytes()])


def read_window(head: dict[str, object], read: Callable[[int], bytes]) -> Window:
    """The window whose line of JSON was `head`; `read` gives exactly so many of the bytes that follow."""
    sizes = head.pop("sizes")
    assert isinstance(sizes, list)
    arrays = []
    for size in sizes:
        numbers = array(NANOSECONDS)
        numbers.frombytes(read(size * numbers.itemsize))
        arrays.append(numbers)
    return Window(latencies_ns=arrays[0], waiting_ns=arrays[1], **head)  # type: ignore[arg-type]


def joined(windows: list[Window]) -> Window:
    """One stretch of time as several processes saw it."""
    latencies, waiting = array(NANOSECONDS), array(NANOSECONDS)
    errors: dict[str, int] = {}
    for window in windows:
        latencies.extend(window.latencies_ns)
        waiting.extend(window.waiting_ns)
        for kind, count in window.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    return Window(
        began_s=min(window.began_s for window in windows),
        ended_s=max(window.ended_s for window in windows),
        latencies_ns=latencies,
        waiting_ns=waiting,
        errors=errors,
        cpu_s=sum(window.cpu_s for window in windows),
        starved_s=sum(window.starved_s for window in windows),
        busiest=max(window.busiest for window in windows),
    )


def shares(pace: Pace, processes: int) -> list[Pace]:
    """The pace of each of several processes that together keep `pace`; none without a client.

    Poisson arrivals of several sources are Poisson again; constant ones are dealt out by `arrivals.times`.
    """
    count = max(1, min(processes, pace.clients))
    clients = [pace.clients // count + (number < pace.clients % count) for number in range(count)]
    return [Pace(clients[number], pace.rate / count, pace.arrivals, pace.seed + number) for number in range(count)]
