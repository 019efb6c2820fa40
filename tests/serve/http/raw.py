"""A client that sends exactly the bytes it is told to, and reads answers strictly."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from towline.testing.server import RunningServer

TIMEOUT_S = 60.0
GOOD_BODY = b'{"instances": [[1.5, 2]]}'
GOOD_ANSWER = b'{"predictions":[[1.5,2.0]]}'
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVEZ_ANSWER = b'{"status":"alive"}'


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        error = self.json()
        return str(error["error"]["code"] if isinstance(error["error"], dict) else error["code"])


def request(method: str = "GET", target: str = "/livez", body: bytes = b"", *headers: str, host: str = "localhost") -> bytes:
    """One request. A Content-Length is added when there is a body."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def predict(body: bytes = GOOD_BODY, *headers: str, model: str = "m") -> bytes:
    return request("POST", f"/v1/models/{model}:predict", body, *headers)


def chunked(*chunks: bytes, model: str = "m") -> bytes:
    """The same prediction, its body in the given chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return request("POST", f"/v1/models/{model}:predict", b"", "Transfer-Encoding: chunked") + body + b"0\r\n\r\n"


@dataclass
class Client:
    """One connection. Reading fails after TIMEOUT_S, so that a server that never answers fails the test."""

    port: int
    left: bytes = b""
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes, *, is_head: bool = False) -> Answer:
        self.send(data)
        return self.answer(is_head=is_head)

    def answer(self, *, is_head: bool = False) -> Answer:
        """The next answer, whole. Raises AssertionError when there is none, or when it is not HTTP."""
        while b"\r\n\r\n" not in self.left:
            assert self._more(), f"the connection ended after {self.left!r}"
        head, _, rest = self.left.partition(b"\r\n\r\n")
        status, headers = parse_head(head)
        length = 0 if is_head or status == 100 else int(dict(headers)["content-length"])
        self.left = rest
        while len(self.left) < length:
            assert self._more(), f"the body ended after {len(self.left)} of {length} bytes"
        body, self.left = self.left[:length], self.left[length:]
        return Answer(status, headers, body)

    def answers(self) -> list[Answer]:
        """Every answer until the server closes its side."""
        found = []
        while self.left or self._more():
            found.append(self.answer())
        return found

    def is_closed(self) -> bool:
        """Waits until the server closes its side; False when it sends something instead."""
        return not self.left and not self._more()

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self.left += data
        return bool(data)


def parse_head(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = status_line.split(" ")
    assert version == "HTTP/1.1", status_line
    pairs = (line.partition(": ") for line in lines)
    return int(status), tuple((name, value) for name, _, value in pairs)


def ask(server: RunningServer, data: bytes, *, is_head: bool = False) -> Answer:
    """One request on a connection of its own."""
    with Client(server.port) as client:
        return client.ask(data, is_head=is_head)


def all_answers(server: RunningServer, data: bytes) -> list[Answer]:
    """Everything the server says to `data`, until it closes or, having answered, has nothing more to say for a third of a second."""
    with Client(server.port) as client:
        try:
            client.send(data)
        except ConnectionError:
            # It has refused already; what it said can still be read.
            pass
        found = []
        while True:
            try:
                if not client.left and not client._more():
                    return found
            except TimeoutError:
                return found
            found.append(client.answer())
            client.socket.settimeout(0.3)


def keeps_at_most(server: RunningServer, limit_bytes: int, act: Callable[[], object]) -> bool:
    """Whether the front is no more than `limit_bytes` larger for doing it again.

    What is kept shows each time, what the allocator takes only once: so it is done up to four times.
    """
    act()
    pid = server.front_pid
    for _ in range(3):
        before = server.rss_bytes(pid)
        act()
        if server.rss_bytes(pid) - before <= limit_bytes:
            return True
    return False


def fresh_metrics(server: RunningServer) -> str:
    """The page of metrics as of now. The server keeps one for ten times as long as it took to write."""
    kept = server.get("/metrics")[1]
    # Counted, so that a page written after this is another one.
    ask(server, request("GET", "/nothing"))
    server.wait_until(lambda: server.get("/metrics")[1] != kept)
    return server.get("/metrics")[1].decode()


def is_well(server: RunningServer) -> bool:
    """Alive, and a known prediction is right."""
    live, good = ask(server, LIVEZ), ask(server, predict())
    return (live.status, live.body, good.status, good.body) == (200, LIVEZ_ANSWER, 200, GOOD_ANSWER)
