"""One connection of the load generator: opened without blocking, one request on it at a time. Linux."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import time

from towline.verify.load.answers import Answers, NotHttp
from towline.verify.load.job import Endpoint

READ_BYTES = 256 << 10
_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_BOTH = select.EPOLLIN | select.EPOLLOUT
_KINDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
    errno.EMFILE: "too many open files",
    errno.EADDRNOTAVAIL: "no free local port",
}


class LinkFailed(Exception):
    """The connection is of no more use; the argument is the kind under which it is counted."""


class Link:
    """`since_ns` is when its request began, or was due, 0 while it has none; `sent_ns` when it left."""

    __slots__ = ("_epoll", "_endpoint", "_rest", "answers", "is_open", "opened_ns", "sent_ns", "since_ns", "sock", "tls")  # fmt: skip  # noqa: RUF023

    def __init__(self, endpoint: Endpoint, address: tuple[socket.AddressFamily, object], tls: ssl.SSLContext | None, epoll: select.epoll):
        """Begin to open. Raises LinkFailed."""
        self._endpoint, self._epoll, self.tls = endpoint, epoll, tls
        self._rest: memoryview | None = None
        self.answers = Answers()
        self.is_open = False
        self.since_ns = self.sent_ns = 0
        self.opened_ns = time.monotonic_ns()
        family, where = address
        try:
            self.sock: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise LinkFailed(kind_of(error)) from error
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = self.sock.connect_ex(where)  # type: ignore[arg-type]
        if begun not in (0, errno.EINPROGRESS):
            self.sock.close()
            raise LinkFailed(kind_of(OSError(begun, "")))
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=endpoint.host, do_handshake_on_connect=False)
        epoll.register(self.sock.fileno(), _BOTH)

    def go_on_opening(self) -> bool:
        """The socket has something to say; whether requests may be sent now. Raises LinkFailed."""
        failed = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise LinkFailed(kind_of(OSError(failed, "")))
        if isinstance(self.sock, ssl.SSLSocket):
            try:
                self.sock.do_handshake()
            except ssl.SSLWantReadError:
                self._epoll.modify(self.sock.fileno(), select.EPOLLIN)
                return False
            except ssl.SSLWantWriteError:
                self._epoll.modify(self.sock.fileno(), _BOTH)
                return False
            except OSError as error:
                raise LinkFailed(kind_of(error)) from error
        self._epoll.modify(self.sock.fileno(), select.EPOLLIN)
        self.is_open = True
        return True

    def send(self, request: bytes, since_ns: int, now_ns: int) -> None:
        """Raises LinkFailed."""
        self.since_ns, self.sent_ns = since_ns, now_ns
        try:
            sent = self.sock.send(request)
        except _WAIT:
            sent = 0
        except OSError as error:
            raise LinkFailed(kind_of(error)) from error
        if sent != len(request):
            self._rest = memoryview(request)[sent:]
            self._epoll.modify(self.sock.fileno(), _BOTH)

    def send_rest(self) -> None:
        if self._rest is None:
            return
        try:
            self._rest = self._rest[self.sock.send(self._rest) :]
        except _WAIT:
            return
        except OSError as error:
            raise LinkFailed(kind_of(error)) from error
        if not self._rest:
            self._rest = None
            self._epoll.modify(self.sock.fileno(), select.EPOLLIN)

    def receive(self) -> list[int]:
        """The statuses of the answers that are complete now. Raises LinkFailed."""
        try:
            data = self.sock.recv(READ_BYTES)
        except _WAIT:
            return []
        except OSError as error:
            raise LinkFailed(kind_of(error)) from error
        try:
            if not data:
                done = self.answers.end()
                if not done:
                    raise LinkFailed("closed without an answer")
                return done
            done = self.answers.feed(data)
            # TLS may hold back what it has read already; the socket would not become readable for it.
            while self.tls is not None and (more := self._pending()):
                done += self.answers.feed(more)
        except NotHttp as error:
            raise LinkFailed(f"no HTTP: {error}") from error
        return done

    def _pending(self) -> bytes:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            return self.sock.recv(READ_BYTES) if self.sock.pending() else b""
        except _WAIT:
            return b""
        except OSError as error:
            raise LinkFailed(kind_of(error)) from error

    def close(self) -> None:
        # Closing takes it out of epoll: nobody else holds the descriptor.
        self.sock.close()


def kind_of(error: OSError) -> str:
    """The few words under which an error is counted: never what a server wrote."""
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    return _KINDS.get(error.errno or 0, errno.errorcode.get(error.errno or 0, "connection failed"))
