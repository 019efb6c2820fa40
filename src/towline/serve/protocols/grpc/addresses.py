"""Where grpc.aio is told to listen, so that it listens there and nowhere else."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from towline.core.errors import TowlineError

ANY_IPV4 = "0.0.0.0"
_LOCAL_TABLE = Path("/proc/net/fib_trie")
# An address of this machine: its line, and the next one, which says so.
_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def hosts_for(host: str, table: Path = _LOCAL_TABLE) -> list[str]:
    """The addresses to listen on for `host`.

    gRPC takes 0.0.0.0 for "everywhere", IPv6 too, which nobody asked for: it is given each IPv4 address there is now instead.
    Raises TowlineError when they cannot be told.
    """
    if host != ANY_IPV4:
        return [host]
    try:
        found = local_ipv4(table.read_text())
    except OSError:
        found = []
    if not found:
        raise TowlineError(
            "gRPC cannot tell this machine's IPv4 addresses.", code="NO_ADDRESSES", hint="Name one: --host ADDRESS; or --grpc native"
        )
    return found


def local_ipv4(table: str) -> list[str]:
    """The machine's own addresses in the text of /proc/net/fib_trie, in order, each once."""
    return [str(address) for address in sorted({ipaddress.IPv4Address(word) for word in _LOCAL.findall(table)})]


def target_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
