"""What it gains that requests of unlike length share a run: the same models with padding and without, in turn, asked by several clients.

python bench/padding.py [--clients 8] [--rounds 5] [--seconds 4]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import processes
import towline
from side_by_side import Ratio, ratio
from towline.testing import tiny_sequences

SENTENCES = 200
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Load:
    """A model, and the lengths that its requests have, any of them as often as another."""

    name: str
    model: Callable[[], bytes]
    longest: int
    body: Callable[[random.Random, int], dict[str, object]]


@dataclass(frozen=True)
class Visit:
    """What one server showed for some seconds: microseconds of processor time for a request, and requests a second."""

    cpu_us: float
    requests_per_s: float


def _sentence(draw: random.Random, length: int) -> dict[str, object]:
    return {"input_ids": [[draw.randint(1, 999) for _ in range(length)]], "attention_mask": [[1] * length]}


def _series(draw: random.Random, length: int) -> dict[str, object]:
    return {"x": [[[round(draw.gauss(0, 1), 3) for _ in range(3)] for _ in range(length)]]}


LOADS = (
    Load("encoder", lambda: tiny_sequences.encoder(pooled=True, vocabulary=1000, width=64, layers=2), 32, _sentence),
    Load("gru", lambda: tiny_sequences.recurrent(width=64), 128, _series),
)


def measure(load: Load, clients: int, rounds: int, seconds: float) -> tuple[list[Visit], list[Visit]]:
    """Visits to the server that pads and to the one that does not, round by round."""
    server_core, load_core = processes.cores()
    os.sched_setaffinity(0, load_core)
    requests = _requests(load)
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        (folder / "model.onnx").write_bytes(load.model())
        towline.import_model(folder / "model.onnx", name=load.name, home=folder / "padded")
        # A home is one server's.
        shutil.copytree(folder / "padded", folder / "plain")
        ports = [processes.free_port(), processes.free_port()]
        servers = [
            stack.enter_context(_serving(load.name, folder / home, port, padding, server_core))
            for home, port, padding in (("padded", ports[0], "true"), ("plain", ports[1], "false"))
        ]
        for port in ports:
            _await_ready(port)
        seen: list[list[Visit]] = [[], []]
        for number in range(rounds + 1):
            # Every second round backwards, so that nobody always runs after the same neighbour; the first only warms.
            for place in (0, 1) if number % 2 else (1, 0):
                visit = _visit(servers[place], ports[place], requests, clients, seconds)
                if number:
                    seen[place].append(visit)
        return seen[0], seen[1]


def _serving(name: str, home: Path, port: int, padding: str, core: set[int]) -> AbstractContextManager[processes.Server]:
    start = "import sys; from towline.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "serve", name, "--home", str(home), "--port", str(port), "--grpc-port", "-1"]
    return processes.running(command, log=home / "server.log", environment={"TOWLINE_PADDING": padding}, core=core)


def _requests(load: Load) -> list[bytes]:
    draw = random.Random(0)
    bodies = [json.dumps({"inputs": load.body(draw, draw.randint(1, load.longest))}).encode() for _ in range(SENTENCES)]
    head = f"POST /v1/models/{load.name}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


def _await_ready(port: int) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until_s:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise SystemExit("A server did not get ready.")


def _visit(server: processes.Server, port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Visit:
    before_us, began_s = processes.cpu_us(server), time.monotonic()
    answered = asyncio.run(_ask(port, requests, clients, began_s + seconds))
    took_s = time.monotonic() - began_s
    return Visit((processes.cpu_us(server) - before_us) / answered, answered / took_s)


async def _ask(port: int, requests: Sequence[bytes], clients: int, until_s: float) -> int:
    """How many requests were answered to clients that ask without pause."""

    async def client(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered, draw = 0, random.Random(number)
        while time.monotonic() < until_s:
            writer.write(draw.choice(requests))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise SystemExit(f"Answered {head[:80]!r}.")
            await reader.readexactly(int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]))
            answered += 1
        writer.close()
        return answered

    return sum(await asyncio.gather(*(client(number) for number in range(clients))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    for load in LOADS:
        padded, plain = measure(load, options.clients, options.rounds, options.seconds)
        print(f"{load.name}, lengths 1 to {load.longest}, {options.clients} clients")
        for what, visits in (("padded", padded), ("not padded", plain)):
            cpu_us, per_s = (statistics.median(getattr(one, name) for one in visits) for name in ("cpu_us", "requests_per_s"))
            print(f"  {what:<11} {cpu_us:8.1f} us CPU a request  {per_s:8,.0f} requests/s")
        for what, name, up in (("CPU", "cpu_us", False), ("requests/s", "requests_per_s", True)):
            pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(padded, plain, strict=True)]
            found: Ratio = ratio([a / b if up else b / a for a, b in pairs])
            print(f"  {what:<11} {found.median:.2f} times better ({found.low:.2f} to {found.high:.2f})")


if __name__ == "__main__":
    main()
