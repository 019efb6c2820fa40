"""What a small request costs the front, told by a cause that no neighbour disturbs: how many functions of ours run for it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from wire import Wire, Wires

from towline.core import channel
from towline.core.arena import Arena
from towline.core.frames import FrameReader, FrameWriter
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec, encode_manifest
from towline.core.worker_messages import BATCH, DONE
from towline.monitor.metrics import ServingMetrics
from towline.serve.codecs.check import Limits
from towline.serve.dataplane import ServingPlane
from towline.serve.protocols.table import RouteTable
from towline.serve.router import WantedModel, WantedVersion
from towline.serve.routes import model_routes
from towline.serve.surroundings import SlotLimits, Surroundings
from towline.serve.workers.process import Worker

SLOT_BYTES = 1 << 16
BODY = b'{"instances": [[0.25, 0.5]]}'
REQUEST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
MANIFEST = Manifest(
    format=1,
    engine="fake",
    model_file="m",
    signatures={"serving_default": Signature((TensorSpec("x", "float32", ("N", 2)),), (TensorSpec("y", "float32", ("N", 2)),))},
    batchable=True,
    origin=Origin("onnx", ""),
    facts=Facts(0, {}, {}),
    measured=Measured("", True, 0, 0, 64),
)
LIMITS = SlotLimits(100, 1 << 20, 60.0, 64)
ANSWER = b'{"predictions":[[0.25,0.5]]}'


class Echo:
    """Lanes of a real worker's link and memory, at whose other end a thread answers y = x."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        link, self._far = channel.channel()
        control, self._control = channel.channel()
        self._arena = Arena.create(slots=1, slot_bytes=SLOT_BYTES)
        self.worker = Worker(loop, link, control)
        self.worker.use_arena(self._arena)
        self.worker.threads = self.worker.idle = 1
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        reader, writer = FrameReader(self._arena.inputs, 0, SLOT_BYTES), FrameWriter(self._arena.outputs, 0, SLOT_BYTES)
        while self._far.recv(64):
            writer.write([{"y": reader.read()["x"]}])
            self._far.send(BATCH.pack(0, DONE, 7))

    async def open(self, version: Any, manifest: Any, on_state: Callable[[str], None]) -> Worker:
        return self.worker

    def end(self, lane: Any) -> None:
        self.worker.close()
        self._thread.join(30)
        self._far.close()
        self._control.close()

    def batch_bytes(self) -> int:
        return SLOT_BYTES


class Front:
    """The front without its socket: wires, routes, plane, slot, batcher and worker are the real ones."""

    def __init__(self, folder: Path) -> None:
        (folder / "manifest.json").write_bytes(encode_manifest(MANIFEST))
        self.wires = Wires()
        loop = self.wires.loop
        around = Surroundings(
            loop,
            lambda: self.wires.now_s,
            Echo(loop),
            ServingMetrics(),
            lambda pid: None,
            lambda pid: None,
            lambda: None,
            lambda *told: None,
        )
        self.plane = ServingPlane(around, LIMITS, keep_s=0.0, on_state=lambda: None)
        self.wires.gate.routes = RouteTable(model_routes(self.plane, Limits(), empty_health=False))
        version = WantedVersion("m", 1, "sha256:1", str(folder))
        loop.call_soon(self.plane.want, [WantedModel("m", (version,), 1)])
        self._run_until(self.plane.is_ready)

    def close(self) -> None:
        self.plane.close()
        self._run_until(lambda: not self.plane.slots())
        self.wires.close()

    def ask(self, clients: list[Wire]) -> None:
        """One request of each client, all in one turn of the loop, until all have their answer."""
        for client in clients:
            client.transport.written = b""
            client.send(REQUEST)
        self._run_until(lambda: all(client.transport.written for client in clients))
        assert {body for client in clients for body in client.bodies()} == {ANSWER}

    def calls_of(self, clients: list[Wire]) -> Counter[str]:
        """Of functions of ours, while each client asks once."""
        calls: Counter[str] = Counter()

        def count(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call" and "/towline/" in frame.f_code.co_filename:
                calls[frame.f_code.co_qualname] += 1

        sys.setprofile(count)
        try:
            self.ask(clients)
        finally:
            sys.setprofile(None)
        return calls

    def _run_until(self, is_done: Callable[[], bool]) -> None:
        async def wait() -> None:
            async with asyncio.timeout(60):
                while not is_done():
                    await asyncio.sleep(0)

        self.wires.loop.run_until_complete(wait())


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    front = Front(tmp_path)
    yield front
    front.close()


@pytest.mark.parametrize(("clients", "most"), [(1, 27), (8, 11.7), (64, 9.4)])
def test_a_small_request_runs_through_few_functions(front: Front, clients: int, most: float) -> None:
    wires = [front.wires.wire() for _ in range(clients)]
    # The first request of a connection is parsed and checked, and the first batch of a size is laid out.
    front.ask(wires)
    front.ask(wires)
    # The fewest of three: where one takes long, the front's clock ticks meanwhile.
    calls = min((front.calls_of(wires) for _ in range(3)), key=Counter.total)

    assert calls.total() / clients <= most, calls.most_common()
