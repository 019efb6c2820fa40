"""What all connections of a server share: limits, routes, a coarse clock, and the sweep that ends those who stall."""

from __future__ import annotations

import email.utils
import http
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from towline.core.config import Settings, is_loopback
from towline.core.errors import TowlineError
from towline.serve.access import Doorman
from towline.serve.contract import HttpRequest, HttpResponse, Reply
from towline.serve.protocols import refusals
from towline.serve.protocols.cors import Cors
from towline.serve.protocols.errors import allowing, own_error, wrong_method
from towline.serve.protocols.exchange import Exchange
from towline.serve.protocols.table import MAX_TARGET_BYTES, Found, RouteTable

log = logging.getLogger("towline.http")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
_KNOWN_HOSTS = 64
_VERSIONS = ("1.1", "1.0")
_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
# A user before the host is not taken: who reads it otherwise would reach another host.
_ABSOLUTE = re.compile(rb"(?i:https?)://" + _HOST.pattern + rb"(?=[/?]|$)")
_JSON = b"application/json"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
# Version ff and ids of zeros are no trace context (W3C Trace Context, 2.2).
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LOOPBACK_NAMES = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})


class Connection(Protocol):
    def has_stalled(self, now_s: float) -> bool:
        """Whether its client sits too long in what it is doing."""
        ...

    def evict(self) -> None: ...

    def forget_head(self) -> None:
        """Check the next request's head, be it the same as the last."""
        ...


class Aside(Protocol):
    """Who has large requests read by another process."""

    def wants(self, exchange: Exchange) -> bool:
        """Whether this one, which is complete and whose body is not joined yet, is for it. It may join it."""
        ...

    def take(self, exchange: Exchange, reply: Reply) -> Callable[[], None]:
        """As a handler of the exchange's route."""
        ...


class Gate:
    """`settings` give the limits. `now_s` is the loop's clock, read ten times a second: exact enough for timeouts, free per request."""

    def __init__(
        self,
        routes: RouteTable,
        settings: Settings,
        *,
        clock: Callable[[], float],
        boot_id: str,
        has_fallback: bool = False,
        doorman: Doorman | None = None,
        refused: Callable[[str], None] = lambda code: None,
    ) -> None:
        self.routes = routes
        self.limits = settings
        self.has_fallback = has_fallback
        self._doorman = doorman
        self._refused = refused
        # Who reads large bodies in the front's place; None where it has no process for that.
        self.aside: Aside | None = None
        self.cors = Cors(settings.cors_origins)
        self.is_draining = False
        self.connections: set[Connection] = set()
        # Address -> its connections, while they have a limit of their own.
        self._peers: Counter[str] = Counter()
        # Of bodies that are still arriving, or wait for the answers before theirs, on all connections.
        self.held_bytes = 0
        self.now_s = clock()
        self._date = b""
        # Of a JsonAnswer, up to its length.
        self.json_head = b""
        self.clock = clock
        # An id for a request whose client gave none. Asked for each request, it runs no code of ours.
        self.new_id: Callable[[], bytes] = map((boot_id.encode() + b"-%x").__mod__, itertools.count(1)).__next__
        self.tick(0.0)
        self._hosts = _allowed_hosts(settings)
        # Host headers that were checked and found good, so that the next request with one is not checked again.
        self._known_hosts: set[bytes] = set()

    def tick(self, wall_s: float) -> None:
        """Ten times a second."""
        self.now_s = self.clock()
        self._date = b"date: " + email.utils.formatdate(wall_s, usegmt=True).encode() + b"\r\n"
        self.json_head = _STATUS_LINES[200] + self._date + b"content-type: " + _JSON + b"\r\ncontent-length: "

    def sweep(self) -> None:
        """Once a second: end the connections that stall."""
        for connection in [one for one in self.connections if one.has_stalled(self.now_s)]:
            connection.evict()

    def welcome(self, peer: str) -> bool:
        """Count a connection of an address; False when it has more than it may. One that was counted is to `leave`."""
        limit = self.limits.max_connections_per_peer
        if not limit:
            return True
        self._peers[peer] += 1
        return self._peers[peer] <= limit

    def leave(self, peer: str) -> None:
        if self.limits.max_connections_per_peer:
            self._peers[peer] -= 1
            if self._peers[peer] <= 0:
                del self._peers[peer]

    def check_head(self, headers: list[tuple[bytes, bytes]], target: bytes, hosts: int, version: str) -> TowlineError | None:
        """What is wrong with a request's head, beyond what the parser refuses."""
        if version not in _VERSIONS:
            return refusals.wrong_version()
        if hosts != 1 and not (hosts == 0 and version == "1.0"):
            return refusals.bad_request("A request needs exactly one Host header.", "host")
        if len(headers) > self.limits.max_headers:
            return refusals.headers_too_large(self.limits)
        size = len(target)
        host = None
        for name, value in headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                host = value
        if size > self.limits.max_header_bytes or len(target) > MAX_TARGET_BYTES:
            return refusals.headers_too_large(self.limits)
        if not target.startswith(b"/"):
            problem = self._check_target(target)
            if problem is not None:
                return problem
        return None if host is None or host in self._known_hosts else self._check_host(host)

    def check_key(self, headers: list[tuple[bytes, bytes]], found: Found, method: bytes) -> TowlineError | None:
        """Why a request may not pass. OPTIONS asks for nothing but what may be asked: browsers send it without a key."""
        if self._doorman is None or found.is_open or method == b"OPTIONS":
            return None
        try:
            self._doorman.check_headers(headers)
        except TowlineError as error:
            return error
        return None

    def is_preflight(self, method: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
        """A browser asks whether a page of another origin may send what it means to."""
        if method != b"OPTIONS" or not self.cors.is_on:
            return False
        return any(name == b"access-control-request-method" for name, _ in headers)

    def forget_heads(self) -> None:
        """The keys are others now: what passed before is looked at again."""
        for connection in self.connections:
            connection.forget_head()

    def _check_target(self, target: bytes) -> TowlineError | None:
        """`http://host/path` names a host of its own, which counts more than the Host header (RFC 9112, 3.2.2)."""
        if target == b"*":
            return None
        match = _ABSOLUTE.match(target)
        if match is None:
            return refusals.bad_request("The request target is not a path.", "target")
        return refusals.misdirected("target") if self._hosts and match.group(1).lower() not in self._hosts else None

    def _check_host(self, host: bytes) -> TowlineError | None:
        match = _HOST.fullmatch(host)
        if match is None:
            return refusals.bad_request("The Host header is not a host name.", "host")
        if self._hosts and match.group(1).lower() not in self._hosts:
            return refusals.misdirected("host")
        if len(self._known_hosts) < _KNOWN_HOSTS:
            self._known_hosts.add(host)
        return None

    def hold(self, exchange: Exchange) -> bool:
        """Count what has arrived of a request that is not complete; False when all of them together are more than there is room for."""
        grown = exchange.body_bytes - exchange.held_bytes
        exchange.held_bytes += grown
        self.held_bytes += grown
        return self.held_bytes <= self.limits.max_waiting_bytes

    def release(self, exchange: Exchange) -> None:
        self.held_bytes -= exchange.held_bytes
        exchange.held_bytes = 0

    def handle(self, found: Found, request: HttpRequest, reply: Reply) -> Callable[[], None] | None:
        """Call the route's handler. Whatever it raises becomes an answer: what it meant to say, or a 500 that says nothing."""
        try:
            if found.handler is not None:
                return found.handler(request, found.params, reply)
            if found.error is not None:
                reply(own_error(found.error, request))
            else:
                allowed = found.allow.split(", ")
                reply(allowing(own_error(wrong_method(request.method, allowed), request), allowed))
        except Exception as error:
            self.answer_failure(error, request, reply)
        return None

    @staticmethod
    def answer_failure(error: Exception, request: HttpRequest, reply: Reply) -> None:
        """What a handler raised."""
        if not isinstance(error, TowlineError):
            log.error("a handler failed on %s %s", request.method, ascii(request.path[:200]), exc_info=error)
            error = TowlineError("The server failed to answer; its log says why.")
        reply(own_error(error, request))

    @staticmethod
    def is_request_id(value: bytes) -> bool:
        return _REQUEST_ID.fullmatch(value) is not None

    @staticmethod
    def trace_line(value: bytes) -> bytes:
        """The header line by which an answer repeats its request's trace context; nothing when it is none."""
        return b"traceparent: %b\r\n" % value if _TRACEPARENT.fullmatch(value) else b""

    def count(self, response: HttpResponse) -> None:
        """What was refused before it came to a version: of no model, for a name from outside is no label."""
        if response.refusal:
            self._refused(response.refusal)

    def head(self, response: HttpResponse, request_id: bytes, echo: bytes, *, keep_alive: bool) -> bytes:
        """Status line and headers, up to and with the empty line."""
        return self._head(response, b"content-length: %d\r\n" % response.size, request_id, echo, keep_alive=keep_alive)

    def open_head(self, response: HttpResponse, exchange: Exchange, *, keep_alive: bool) -> bytes:
        """As `head`, of an answer whose length nobody knows yet."""
        framing = b"transfer-encoding: chunked\r\n" if exchange.takes_chunks else b""
        return self._head(response, framing, exchange.id, exchange.echo, keep_alive=keep_alive)

    def _head(self, response: HttpResponse, framing: bytes, request_id: bytes, echo: bytes, *, keep_alive: bool) -> bytes:
        self.count(response)
        extra = b"".join([b"%b: %b\r\n" % pair for pair in response.headers])
        return b"%b%bcontent-type: %b\r\n%bx-request-id: %b\r\n%b%b%b\r\n" % (
            _STATUS_LINES.get(response.status) or b"HTTP/1.1 %d \r\n" % response.status,
            self._date,
            response.content_type,
            framing,
            request_id,
            echo,
            extra,
            b"" if keep_alive else b"connection: close\r\n",
        )


def _allowed_hosts(settings: Settings) -> frozenset[bytes]:
    """Host names answered for. On loopback only its own names, so that a page on the web cannot reach us by rebinding a name; else all."""
    named = {host.strip().lower().encode() for host in settings.allowed_hosts.split(",") if host.strip()}
    if b"*" in named:
        return frozenset()
    return _LOOPBACK_NAMES | named | {settings.host.encode()} if is_loopback(settings.host) else frozenset(named)
