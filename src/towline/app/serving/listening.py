"""Take the ports of a server before anything of it starts, or say who has them."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from towline.core.errors import UsageError

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UsageError."""
    return _bound(host, port, "port", "--port 0")


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps a port for one process after another of ours and never listens itself; port 0 takes a free one.

    It shares the port (SO_REUSEPORT), as only sockets of the same user may: gRPC takes no listening socket from us. Raises UsageError.
    """
    # Without sharing first: whoever else listens there must be noticed, another server of ours too.
    probe = _bound(host, port, "grpc_port", "--grpc-port 0; -1 serves no gRPC")
    host, port = probe.getsockname()[:2]
    probe.close()
    keeper = socket.socket(probe.family, socket.SOCK_STREAM)
    # Not SO_REUSEADDR: two servers that start at once, when neither listens yet, would both get the port.
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        keeper.bind((host, port))
    except OSError as error:
        keeper.close()
        raise _taken(host, port, "grpc_port", "--grpc-port 0; -1 serves no gRPC", error) from error
    return keeper


def address_of(bound: socket.socket) -> str:
    """`HOST:PORT` of a bound socket, as URLs and gRPC targets write it."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bound(host: str, port: int, field: str, other: str) -> socket.socket:
    """A listening socket that shares its port with nobody."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise _taken(host, port, field, other, error) from error
    return bound


def _taken(host: str, port: int, field: str, other: str, error: OSError) -> UsageError:
    holder = _holder(port)
    taken = f" by process {holder}" if holder else ""
    reason = f"is in use{taken}" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
    return UsageError(f"Port {port} of {host} {reason}.", code="PORT_IN_USE", field=field, hint=f"Stop it, or take another: {other}")


def _holder(port: int) -> int:
    """The process that listens on a port of this machine, 0 when that cannot be told. Reads /proc."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in (line.split() for line in lines):
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for folder in Path("/proc").glob("[0-9]*/fd") if inodes else ():
        try:
            if any(os.readlink(link) in inodes for link in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:
            continue
    return 0
