"""Ask a server over real HTTP, one by one or many at once, and tally what came back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

TIMEOUT_S = 30.0
MAX_RESPONSE_BYTES = 1 << 20
# Of the failures only the first few are shown; all are counted.
SHOWN_FAILURES = 5


@dataclass(frozen=True)
class Question:
    """A prepared HTTP request and the class that is the right answer to it."""

    raw: bytes
    right: int


@dataclass
class Tally:
    """What one or more clients saw. `failed` counts every request that was not answered with 200."""

    latencies_s: list[float] = field(default_factory=list)
    right: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def asked(self) -> int:
        return len(self.latencies_s)

    def add(self, other: Tally) -> None:
        self.latencies_s += other.latencies_s
        self.right += other.right
        self.failed += other.failed
        self.reasons = (self.reasons + other.reasons)[:SHOWN_FAILURES]

    def percentile_s(self, percent: float) -> float:
        """The latency that `percent` of the requests did not exceed, in seconds; 0 when there was none."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def question(url: str, model: str, instance: object, right: int) -> Question:
    """A TF Serving `predict` with one instance."""
    body = json.dumps({"instances": [instance]}, separators=(",", ":")).encode()
    host = urlsplit(url).netloc
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    return Question(head.encode() + body, right)


class Client:
    """One keep-alive connection. Small on purpose: http.client costs more processor time than the server it would measure."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._socket: socket.socket | None = None

    def post(self, raw: bytes) -> tuple[int, bytes]:
        """(status, body). Raises OSError, or ValueError on what is not an HTTP response with a Content-Length."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(raw)
        received = self._receive(b"", lambda seen: b"\r\n\r\n" in seen)
        head, _, body = received.partition(b"\r\n\r\n")
        status_line, *headers = head.split(b"\r\n")
        lengths = [int(line.split(b":", 1)[1]) for line in headers if line.lower().startswith(b"content-length:")]
        if len(lengths) != 1 or lengths[0] > MAX_RESPONSE_BYTES:
            raise ValueError(f"expected one Content-Length of at most {MAX_RESPONSE_BYTES} bytes, got {lengths}")
        return int(status_line.split(b" ")[1]), self._receive(body, lambda seen: len(seen) >= lengths[0])

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self, received: bytes, is_complete: Callable[[bytes], bool]) -> bytes:
        assert self._socket is not None
        while not is_complete(received):
            piece = self._socket.recv(65_536)
            if not piece or len(received) > MAX_RESPONSE_BYTES:
                raise ConnectionError("the connection ended before the answer did")
            received += piece
        return received


def ask(client: Client, asked: Question, tally: Tally) -> int:
    """Send one question and enter the outcome. Returns the class answered, -1 when it failed."""
    started_s = time.perf_counter()
    try:
        status, body = client.post(asked.raw)
    except (OSError, ValueError, IndexError) as error:
        client.close()
        status, body = 0, f"{type(error).__name__}: {error}".encode()
    tally.latencies_s.append(time.perf_counter() - started_s)
    answer = _answer(body) if status == 200 else -1
    if answer < 0:
        tally.failed += 1
        tally.reasons = [*tally.reasons, f"{status} {body[:200].decode('utf-8', 'replace')!r}"][:SHOWN_FAILURES]
    tally.right += answer == asked.right
    return answer


def ask_each(url: str, questions: Sequence[Question]) -> tuple[list[int], Tally]:
    """All questions once, one after the other on one connection: (answers, tally)."""
    tally, client = Tally(), Client(url)
    started_s = time.perf_counter()
    answers = [ask(client, one, tally) for one in questions]
    tally.elapsed_s = time.perf_counter() - started_s
    client.close()
    return answers, tally


def ask_while(url: str, questions: Sequence[Question], clients: int, meanwhile: Callable[[], None]) -> Tally:
    """`clients` connections ask without a pause, over and over, while `meanwhile` runs. Every request that was sent is tallied."""
    stop = threading.Event()
    tallies = [Tally() for _ in range(clients)]
    threads = [threading.Thread(target=_ask_until, args=(url, questions, stop, tally), daemon=True) for tally in tallies]
    started_s = time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        meanwhile()
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT_S * 2)
    total = Tally(elapsed_s=time.perf_counter() - started_s)
    for tally in tallies:
        total.add(tally)
    return total


def _ask_until(url: str, questions: Sequence[Question], stop: threading.Event, tally: Tally) -> None:
    client = Client(url)
    while not stop.is_set():
        for one in questions:
            ask(client, one, tally)
            if stop.is_set():
                break
    client.close()


def _answer(body: bytes) -> int:
    """The most probable class of a one-instance answer, -1 when it is none."""
    try:
        (scores,) = json.loads(body)["predictions"]
        return max(range(len(scores)), key=scores.__getitem__)
    except (ValueError, KeyError, TypeError):
        return -1
