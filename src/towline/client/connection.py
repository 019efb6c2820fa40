"""Kept HTTP connections to one server, one per thread, with deadlines and the few retries that are harmless."""

from __future__ import annotations

import http.client
import ipaddress
import os
import random
import ssl
import threading
import time
import urllib.parse
import weakref
from dataclasses import dataclass

from towline.client.wire import HEADER_LENGTH, BadAnswer, retry_after_s
from towline.core.errors import DeadlineExceeded, InvalidRequest, Unreachable

MAX_ANSWER_BYTES = 2 << 30
MAX_TRIES = 4
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
_CHUNK_BYTES = 1 << 20
# The other end went away: on a kept connection that is how an idle one ends.
_GONE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
_HINT = "'towline ps' shows the servers running on this machine."


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    body: bytes
    header_length: str | None
    retry_after: str | None


@dataclass(frozen=True)
class Address:
    """Where a server is. `path` is what comes before its own paths, without a closing slash."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class _Kept:
    """One thread's connection, closed when the thread or the client goes."""

    def __init__(self, address: Address) -> None:
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self.connection: http.client.HTTPConnection = kind(address.host, address.port)
        self.pid = os.getpid()

    def __del__(self) -> None:
        self.connection.close()


class Connections:
    """Sends requests to one server. Thread-safe; `timeout_s` bounds each call of `exchange`, retries included."""

    def __init__(self, url: str, *, timeout_s: float, key: str | None) -> None:
        self.address = parse_address(url)
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"user-agent": "towline", **_authorization(key, self.address)}
        self._mine = threading.local()
        self._all: weakref.WeakSet[_Kept] = weakref.WeakSet()
        self._lock = threading.Lock()

    def exchange(self, method: str, path: str, body: bytes, headers: dict[str, str], *, tries: int = MAX_TRIES) -> Answer:
        """Send and read. A refused connection and an answer 503 are tried again, after the pause the server asks for.

        Raises Unreachable when nobody answers, DeadlineExceeded, BadAnswer. Any status is an answer.
        """
        deadline_s = time.monotonic() + self._timeout_s
        for attempt in range(1, tries + 1):
            refused: Unreachable | None = None
            asked_s = None
            try:
                answer = self._send(method, path, body, headers, deadline_s)
                if answer.status != 503:
                    return answer
                asked_s = retry_after_s(answer.retry_after)
            except Unreachable as error:
                refused = error
            pause_s = asked_s if asked_s is not None else FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1)
            if attempt == tries or pause_s > LONGEST_PAUSE_S or time.monotonic() + pause_s >= deadline_s:
                break
            time.sleep(pause_s)
        if refused is not None:
            raise refused
        return answer

    def close(self) -> None:
        with self._lock:
            kept = list(self._all)
        for one in kept:
            one.connection.close()

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str], deadline_s: float) -> Answer:
        connection = self._connection()
        was_open = connection.sock is not None
        try:
            return self._try(connection, method, path, body, headers, deadline_s)
        except _GONE as error:
            if not was_open:
                raise _lost(self.url) from error
        # The server closed the kept connection while it was idle. Once, on a new one.
        try:
            return self._try(connection, method, path, body, headers, deadline_s)
        except _GONE as error:
            raise _lost(self.url) from error

    def _try(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: dict[str, str], deadline_s: float
    ) -> Answer:
        try:
            self._connect(connection, deadline_s)
            connection.request(method, self.address.path + path, body or None, {**self._headers, **headers})
            response = connection.getresponse()
            raw = self._read(connection, response, deadline_s)
            return Answer(response.status, raw, response.getheader(HEADER_LENGTH), response.getheader("retry-after"))
        except TimeoutError as error:
            connection.close()
            raise self._late() from error
        except (http.client.HTTPException, ssl.SSLError) as error:
            connection.close()
            if isinstance(error, _GONE):
                raise
            raise BadAnswer(f"{self.url} answered with something that is not HTTP.") from error
        except BaseException:
            # Whatever it was, half an answer must not be read as the next one.
            connection.close()
            raise

    def _connect(self, connection: http.client.HTTPConnection, deadline_s: float) -> None:
        connection.timeout = self._left_s(deadline_s)
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
            return
        try:
            connection.connect()
        except TimeoutError:
            raise
        except ssl.SSLError as error:
            raise Unreachable(f"{self.url} does not speak TLS as expected: {error.reason}.") from error
        except OSError as error:
            raise Unreachable(f"Nobody answers at {self.url}: {error.strerror or error}.", hint=_HINT) from error

    def _read(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline_s: float) -> bytes:
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise BadAnswer(f"The answer of {self.url} is larger than {MAX_ANSWER_BYTES} bytes.")
            left_s = self._left_s(deadline_s)
            if connection.sock is not None:
                connection.sock.settimeout(left_s)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        # read1 leaves it open at its end, and the connection could not be used again.
        response.close()
        return bytes(body)

    def _left_s(self, deadline_s: float) -> float:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise self._late()
        return left_s

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self.url} did not answer within {self._timeout_s:g} s.", hint="Give it longer: timeout_s=….")

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection. A forked child never uses its parent's."""
        kept: _Kept | None = getattr(self._mine, "kept", None)
        if kept is None or kept.pid != os.getpid():
            kept = self._mine.kept = _Kept(self.address)
            with self._lock:
                self._all.add(kept)
        return kept.connection


def parse_address(url: str) -> Address:
    """The parts of `http://HOST:PORT` or https. Raises InvalidRequest, without repeating a secret."""
    parts = urllib.parse.urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("A URL must not hold a user or a password.", field="url", hint="Give the key by itself.")
    try:
        port = parts.port
    except ValueError:
        port = -1
    is_plain = url.isascii() and url.isprintable() and " " not in url and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or not is_plain:
        raise InvalidRequest(f"{url[:64]!r} is not a server's address: expected http://HOST:PORT.", field="url")
    return Address(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/"))


def _authorization(key: str | None, address: Address) -> dict[str, str]:
    if key is None:
        return {}
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidRequest("A key is printable ASCII without line breaks.", field="key")
    if address.scheme == "http" and not address.is_loopback:
        raise InvalidRequest(f"A key is not sent to {address.host} in the clear.", field="key", hint="Use https.")
    return {"authorization": f"Bearer {key}"}


def _lost(url: str) -> BadAnswer:
    # Not Unreachable: the request may have been carried out, so it is not sent again.
    return BadAnswer(f"{url} closed the connection without an answer.", code="CONNECTION_LOST")
