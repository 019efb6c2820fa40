"""Press HTTP requests on a server: a closed loop of clients, or an open loop of arrivals, on one epoll.

Not asyncio: its timers, uvloop's too, are whole milliseconds, and a request sent late by one would be a server slow by one.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle

from towline.verify.load.job import Job
from towline.verify.load.link import Link, LinkFailed
from towline.verify.load.meter import Meter

OPEN_TIMEOUT_S = 10.0
RETRY_NS = 20_000_000
LOOK_NS = 100_000_000
# Requests that are due and wait for a connection. Beyond it they are counted as failed: nobody would wait behind so many.
MAX_BACKLOG = 200_000
NEVER_SENT = "never sent: too many waiting"


class HttpLoad:
    """`open` connects all; then `run` until `stop` becomes readable. Raises LinkFailed from `open` only."""

    def __init__(self, job: Job, due: Iterator[int] | None, stop: int) -> None:
        self._job = job
        self._due = due
        self._stop = stop
        self._requests = cycle(job.requests)
        self._epoll = select.epoll()
        self._epoll.register(stop, select.EPOLLIN)
        self._address = _address_of(job.endpoint.host, job.endpoint.port)
        self._tls = _tls_context() if job.endpoint.is_tls else None
        self._links: dict[int, Link] = {}
        self._idle: list[Link] = []
        self._backlog: deque[int] = deque()
        # When to open a connection again, and since when its request waits (0: it begins when the connection is there).
        self._broken: deque[tuple[int, int]] = deque()

    def open(self) -> None:
        """Open every connection, so that none of them opens while it is measured."""
        for _ in range(self._job.pace.clients):
            self._begin_link()
        until_s = time.monotonic() + OPEN_TIMEOUT_S
        waiting = set(self._links)
        while waiting:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise LinkFailed("no connection in time")
            for fd, _ in self._epoll.poll(left_s):
                if fd in waiting and self._links[fd].go_on_opening():
                    waiting.discard(fd)

    def run(self, start_ns: int, meter: Meter) -> None:
        self._meter = meter
        self._start_ns = start_ns
        self._next_due_ns = start_ns + next(self._due) if self._due is not None else 0
        self._next_look_ns = start_ns + LOOK_NS
        while (now_ns := time.monotonic_ns()) < start_ns:
            time.sleep((start_ns - now_ns) / 1e9)
        for link in list(self._links.values()):
            self._ready(link, 0, now_ns)
        while self._turn():
            pass

    def waiting_since(self) -> Iterator[int]:
        """When the requests that have no answer yet began, or were due."""
        yield from (link.since_ns for link in self._links.values() if link.since_ns)
        yield from self._backlog

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._epoll.close()

    def _turn(self) -> bool:
        """One round of the loop; False when it is to stop."""
        now_ns = time.monotonic_ns()
        if now_ns >= self._meter.next_cut_ns:
            self._meter.cut(now_ns)
        if now_ns >= self._next_look_ns:
            self._look(now_ns)
        if self._broken:
            self._mend(now_ns)
        if self._due is not None:
            self._send_due(now_ns)
        for fd, mask in self._wait(now_ns):
            link = self._links.get(fd)
            if link is not None:
                self._serve(link, mask)
            elif fd == self._stop:
                return False
        return True

    def _wait(self, now_ns: int) -> list[tuple[int, int]]:
        wake_ns = min(self._meter.next_cut_ns, self._next_look_ns)
        if self._broken:
            wake_ns = min(wake_ns, self._broken[0][0])
        if self._due is None:
            return self._epoll.poll(max(0, wake_ns - now_ns) / 1e9)
        # epoll waits in milliseconds, rounded up; select in microseconds, and it can wait for an epoll.
        left_s = (min(wake_ns, self._next_due_ns) - time.monotonic_ns()) / 1e9
        if left_s > 0:
            select.select([self._epoll], (), (), left_s)
        return self._epoll.poll(0)

    def _serve(self, link: Link, mask: int) -> None:
        try:
            if not link.is_open:
                if link.go_on_opening():
                    self._ready(link, link.since_ns, time.monotonic_ns())
                return
            if mask & select.EPOLLOUT:
                link.send_rest()
            if mask & ~select.EPOLLOUT:
                self._receive(link)
        except LinkFailed as error:
            self._fail(link, str(error))

    def _receive(self, link: Link) -> None:
        statuses = link.receive()
        if not statuses:
            return
        now_ns = time.monotonic_ns()
        if len(statuses) > 1 or not link.since_ns:
            raise LinkFailed("an answer nobody asked for")
        if 200 <= statuses[0] < 300:
            self._meter.answered(now_ns - link.since_ns)
        else:
            self._meter.failed(f"HTTP {statuses[0]}")
        link.since_ns = 0
        if link.answers.is_last:
            # A client waits for its new connection too.
            self._drop(link)
            self._broken.appendleft((now_ns, 0 if self._due is not None else now_ns))
            self._mend(now_ns)
            return
        self._ready(link, 0, now_ns)

    def _ready(self, link: Link, since_ns: int, now_ns: int) -> None:
        """The link is free: send what is next. `since_ns` when its request has been waiting for it."""
        try:
            if self._due is None:
                link.send(next(self._requests), since_ns or now_ns, now_ns)
            elif self._backlog:
                link.send(next(self._requests), self._backlog.popleft(), now_ns)
            else:
                link.since_ns = 0
                self._idle.append(link)
        except LinkFailed as error:
            self._fail(link, str(error))

    def _send_due(self, now_ns: int) -> None:
        assert self._due is not None
        while self._next_due_ns <= now_ns:
            if self._idle:
                link = self._idle.pop()
                try:
                    link.send(next(self._requests), self._next_due_ns, now_ns)
                except LinkFailed as error:
                    self._fail(link, str(error))
            elif len(self._backlog) < MAX_BACKLOG:
                self._backlog.append(self._next_due_ns)
            else:
                self._meter.failed(NEVER_SENT)
            self._next_due_ns = self._start_ns + next(self._due)

    def _fail(self, link: Link, kind: str) -> None:
        # An idle connection that the server closed is no failure: it is only opened again.
        if link.since_ns or not link.is_open:
            self._count(kind, has_request=bool(link.since_ns))
        self._drop(link)
        self._broken.append((time.monotonic_ns() + RETRY_NS, 0))

    def _count(self, kind: str, *, has_request: bool) -> None:
        """One failure is one request's: where the connection had none yet, that of the request that waits longest, if one does."""
        if self._due is not None and not has_request:
            if not self._backlog:
                return
            self._backlog.popleft()
        self._meter.failed(kind)

    def _drop(self, link: Link) -> None:
        self._links.pop(link.sock.fileno(), None)
        if link in self._idle:
            self._idle.remove(link)
        link.close()

    def _mend(self, now_ns: int) -> None:
        """Open again what broke, a moment later: a server that refuses is not to be drowned in attempts."""
        while self._broken and self._broken[0][0] <= now_ns:
            _, since_ns = self._broken.popleft()
            try:
                self._begin_link().since_ns = since_ns
            except LinkFailed as error:
                self._count(str(error), has_request=since_ns > 0)
                self._broken.append((now_ns + RETRY_NS, 0))

    def _begin_link(self) -> Link:
        link = Link(self._job.endpoint, self._address, self._tls, self._epoll)
        self._links[link.sock.fileno()] = link
        return link

    def _look(self, now_ns: int) -> None:
        """Now and then: give up what takes too long."""
        self._next_look_ns = now_ns + LOOK_NS
        oldest_ns = now_ns - int(self._job.timeout_s * 1e9)
        for link in list(self._links.values()):
            if link.is_open and link.since_ns and link.sent_ns < oldest_ns:
                self._fail(link, "timeout")
            elif not link.is_open and link.opened_ns < now_ns - int(OPEN_TIMEOUT_S * 1e9):
                self._fail(link, "no connection in time")
        while self._backlog and self._backlog[0] < oldest_ns:
            self._backlog.popleft()
            self._meter.failed("timeout")


def _address_of(host: str, port: int) -> tuple[socket.AddressFamily, object]:
    """The first address of `host` that takes a connection, else the first: looked up once, not while it is measured."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LinkFailed("unknown host") from error
    for family, _, _, _, where in found:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(OPEN_TIMEOUT_S)
            if len(found) == 1 or probe.connect_ex(where) == 0:
                return family, where
    return found[0][0], found[0][4]


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
