"""A small HTTP server for the tests of the load generator: it stalls, refuses, closes and is silent on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from towline.verify.load.job import HTTP, Endpoint, Job, Pace

BODY = b'{"ok": true}'


@dataclass
class Behaviour:
    """`stall_at`: that request, and whatever comes meanwhile, waits `stall_s`. `statuses` are answered in turn, 200 in the end.

    `closes`: each answer is the last on its connection. `silent`: no request is ever answered. `chunked`: without a length.
    """

    stall_at: int = 0
    stall_s: float = 1.0
    statuses: list[int] = field(default_factory=list)
    closes: bool = False
    silent: bool = False
    chunked: bool = False
    seen: int = 0
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[int]:
    """The port of a server that behaves so."""
    one_at_a_time, never = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Written at once: a head and a body of their own would wait for one another's acknowledgement.
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with one_at_a_time:
                behaviour.seen += 1
                behaviour.bodies.append(body)
                status = behaviour.statuses.pop(0) if behaviour.statuses else 200
                if behaviour.seen == behaviour.stall_at:
                    never.wait(behaviour.stall_s)
            if behaviour.silent:
                never.wait(600)
                return
            self.send_response(status)
            if behaviour.closes:
                self.send_header("connection", "close")
            if behaviour.chunked:
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
            else:
                self.send_header("content-length", str(len(BODY)))
                self.end_headers()
                self.wfile.write(BODY)
            self.wfile.flush()

        def log_message(self, *words: object) -> None:
            """The test's output is its own."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, request: object, address: object) -> None:
            """A client that goes in the middle of a request is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        never.set()
        server.shutdown()
        server.server_close()
        thread.join()


def request_to(port: int, body: bytes = b"{}") -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n%s" % (port, len(body), body)


def job(
    port: int, pace: Pace, *, window_s: float = 0.2, warmup_s: float = 0.05, timeout_s: float = 10.0, bodies: tuple[bytes, ...] = (b"{}",)
) -> Job:
    return Job(Endpoint(HTTP, "127.0.0.1", port), pace, tuple(request_to(port, body) for body in bodies), timeout_s, warmup_s, window_s)
