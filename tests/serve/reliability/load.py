"""Keep-alive clients that ask without pause, each answer compared: what every fault is injected under."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

ANSWER_TIMEOUT_S = 60.0
MAX_REMEMBERED = 20

# Says what is wrong with an answer (status, body), or nothing.
Check = Callable[[int, bytes], str]


@dataclass(frozen=True)
class Ask:
    """One request, and what its answer must be."""

    path: str
    body: bytes
    check: Check
    headers: tuple[str, ...] = ()

    @property
    def raw(self) -> bytes:
        lines = [f"POST {self.path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(self.body)}", *self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def equals(status: int, body: bytes) -> Check:
    def check(got_status: int, got_body: bytes) -> str:
        if (got_status, got_body) == (status, body):
            return ""
        return f"expected {status} {body[:80]!r}, got {got_status} {got_body[:200]!r}"

    return check


@dataclass
class Load:
    """`with Load(host, port, asks) as load: …inject…` and then `load.failures` and `load.answered`.

    Each of `clients` connections goes through `asks` from a place of its own and pauses `pause_s` between two.
    A connection that breaks is a failure, unless `may_break`: then it is counted in `breaks` and made anew.
    """

    host: str
    port: int
    asks: Sequence[Ask]
    clients: int = 64
    pause_s: float = 0.03
    may_break: bool = False
    answered: int = 0
    breaks: int = 0
    failures: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._began_s = time.monotonic()

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(ANSWER_TIMEOUT_S + 10)
        assert not self._thread.is_alive(), "the clients did not end"

    def await_answers(self, more: int, timeout_s: float = 60.0) -> None:
        """Wait until so many more answers have come: the load really flows."""
        goal, until = self.answered + more, time.monotonic() + timeout_s
        while self.answered < goal:
            assert time.monotonic() < until, f"only {self.answered} of {goal} answers came; {self.failures[:3]}"
            time.sleep(0.005)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self.clients)))

    async def _client(self, number: int) -> None:
        asks = itertools.cycle([*self.asks[number % len(self.asks) :], *self.asks[: number % len(self.asks)]])
        stream = None
        while not self._stopping.is_set():
            ask = next(asks)
            try:
                if stream is None:
                    stream = await asyncio.open_connection(self.host, self.port)
                status, body, is_last = await asyncio.wait_for(_exchange(*stream, ask.raw), ANSWER_TIMEOUT_S)
            except (OSError, EOFError, TimeoutError) as error:
                stream = _closed(stream)
                if self.may_break:
                    self.breaks += 1
                    await asyncio.sleep(0.02)
                else:
                    self._fail(f"{type(error).__name__}: {error}")
                continue
            self.answered += 1
            self.statuses[status] += 1
            problem = ask.check(status, body)
            if problem:
                self._fail(problem)
            if is_last:
                stream = _closed(stream)
            await asyncio.sleep(self.pause_s)
        _closed(stream)

    def _fail(self, what: str) -> None:
        if len(self.failures) < MAX_REMEMBERED:
            self.failures.append(f"{time.monotonic() - self._began_s:.2f} s: {what}")


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes) -> tuple[int, bytes, bool]:
    """Status, body, and whether the server closes the connection after it."""
    writer.write(raw)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length: ", 1)[1].split("\r\n", 1)[0])
    return int(head.split(" ", 2)[1]), await reader.readexactly(length), "connection: close" in head


def _closed(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if stream is not None:
        stream[1].close()
