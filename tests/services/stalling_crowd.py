"""Clients that stall, each in its own way, in a process of their own: HOST PORT. Says "there" once all are, and how each ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

MANY, FEW = 600, 200
PATIENCE_S = 180.0
BODY_TO_COME = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
PAGE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def drip(writer: asyncio.StreamWriter, what: bytes) -> None:
    """A byte each second, for as long as the server puts up with it."""
    for at in range(len(what)):
        writer.write(what[at : at + 1])
        await writer.drain()
        await asyncio.sleep(1)


async def drip_a_head(writer: asyncio.StreamWriter) -> None:
    await drip(writer, b"GET /livez HTTP/1.1\r\nX-Slow: " + b"x" * 1000)


async def drip_a_body(writer: asyncio.StreamWriter) -> None:
    writer.write(BODY_TO_COME)
    await drip(writer, b"x" * 1000)


async def read_nothing(writer: asyncio.StreamWriter) -> None:
    """Ask for more than the sockets hold, and take none of it."""
    for _ in range(1000):
        writer.write(PAGE)
        await writer.drain()
    await asyncio.sleep(PATIENCE_S)


async def do_nothing(writer: asyncio.StreamWriter) -> None:
    """It has connected, and that is all."""


KINDS: dict[str, tuple[int, Callable[[asyncio.StreamWriter], Awaitable[None]]]] = {
    "head": (MANY, drip_a_head),
    "body": (MANY, drip_a_body),
    "reader": (FEW, read_nothing),
    "idle": (MANY, do_nothing),
}


async def stall(kind: str, address: tuple[str, int], connected: asyncio.Semaphore) -> tuple[str, int]:
    """Kind, and the status that the server gave before it let go; 0 when it said nothing, or nothing that was read."""
    client = socket.socket()
    client.setblocking(False)
    # Else the kernel would read for it.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.get_running_loop().sock_connect(client, address)
    reader, writer = await asyncio.open_connection(sock=client)
    connected.release()
    said = b""
    if kind == "reader":
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            await read_nothing(writer)
            raise TimeoutError
    else:
        acting = asyncio.ensure_future(KINDS[kind][1](writer))
        with contextlib.suppress(OSError):
            said = await reader.read()
        acting.cancel()
        await asyncio.wait([acting])
    writer.transport.abort()
    return kind, int(said[9:12] or 0)


async def main(host: str, port: int) -> None:
    connected = asyncio.Semaphore(0)
    stalling = [asyncio.ensure_future(stall(kind, (host, port), connected)) for kind, (count, _) in KINDS.items() for _ in range(count)]
    for _ in stalling:
        await connected.acquire()
    print("there", flush=True)
    done, _ = await asyncio.wait(stalling, timeout=PATIENCE_S)
    ends = Counter(" ".join(map(str, one.result())) for one in done)
    print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limit), limit))
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
