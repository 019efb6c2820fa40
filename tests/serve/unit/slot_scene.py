"""A slot with places to run in and a clock that the test owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.monitor.metrics import ServingMetrics
from towline.serve.jobs import Batch
from towline.serve.router import WantedVersion
from towline.serve.slots import Slot
from towline.serve.surroundings import SlotLimits, Surroundings
from towline.serve.workers.hub import Exit

ROW = TensorSpec("x", "float32", ("N", 2))
MANIFEST = Manifest(
    format=1,
    engine="fake",
    model_file="m",
    signatures={"serving_default": Signature((ROW,), (TensorSpec("y", "float32", ("N", 2)),))},
    batchable=True,
    origin=Origin("onnx", ""),
    facts=Facts(0, {}, {}),
    measured=Measured("", True, 0, 0, 64),
)
LIMITS = SlotLimits(100, 1 << 20, 60.0, 64)


class Place:
    """A place to run in that answers y = x, at once or when told to, and dies when told to."""

    max_rows = 0
    pads_up_to = 0
    threads = 1
    memory_bytes = 0

    def __init__(self, pid: int, *, is_slow: bool, merges: bool = True) -> None:
        self.pid = pid
        self.merges = merges
        self.is_dead = False
        self.running: list[Batch] = []
        # Jobs and rows of each batch.
        self.ran: list[int] = []
        self.rows_ran: list[int] = []
        self.terminated = 0
        self.on_batch: Callable[[Batch, Any, int], None] = lambda batch, result, spent_us: None
        self.on_part: Callable[[Batch, Any, Callable[[], None]], None] = lambda batch, outputs, more: None
        self.on_death: Callable[[Any], None] = lambda lane: None
        self._is_slow = is_slow

    @property
    def idle(self) -> int:
        return 0 if self.is_dead or self.running else 1

    def run(self, batch: Batch) -> None:
        assert not self.is_dead, "asked to run although it is dead"
        self.running.append(batch)
        self.ran.append(len(batch.jobs))
        self.rows_ran.append(batch.rows)
        if not self._is_slow:
            asyncio.get_running_loop().call_soon(self.finish)

    def finish(self, result: Any = None) -> None:
        if self.is_dead or not self.running:
            return
        batch = self.running.pop()
        self.on_batch(batch, result or {"y": np.concatenate([job.request.inputs["x"] for job in batch.jobs])}, 1)

    def die(self) -> None:
        self.is_dead = True
        self.on_death(self)

    def terminate_runs(self) -> None:
        self.terminated += 1

    async def ask(self, message: dict[str, Any], descriptors: tuple[int, ...] = (), *, timeout_s: float) -> dict[str, Any]:
        return {}


class Places:
    """Gives a new place whenever a slot asks for one; `on_open` sees it before the slot does."""

    def __init__(self, *, is_slow: bool, on_open: Callable[[Place], None], merges: bool) -> None:
        self._merges = merges
        self.given: list[Place] = []
        self._is_slow = is_slow
        self._on_open = on_open

    async def open(self, version: Any, manifest: Any, on_state: Callable[[str], None]) -> Place:
        await asyncio.sleep(0)
        place = Place(100 + len(self.given), is_slow=self._is_slow, merges=self._merges)
        self.given.append(place)
        self._on_open(place)
        return place

    def end(self, lane: Any) -> None:
        lane.is_dead = True

    def batch_bytes(self) -> int:
        return 1 << 20


def _as_it_is(place: Place) -> None:
    """Nothing befalls a place when it is opened."""


class Scene:
    """A slot, the places it was given, and a clock. `exit` is how every worker is said to have ended."""

    def __init__(
        self,
        *,
        is_slow: bool = False,
        on_open: Callable[[Place], None] = _as_it_is,
        merges: bool = True,
        limits: SlotLimits = LIMITS,
        manifest: Manifest = MANIFEST,
    ) -> None:
        self.now_s = 0.0
        self.killed: list[int] = []
        self.told: list[str] = []
        self.answers: list[str] = []
        self.exit = Exit(9)
        self.places = Places(is_slow=is_slow, on_open=on_open, merges=merges)
        around = Surroundings(
            asyncio.get_running_loop(),
            lambda: self.now_s,
            self.places,  # type: ignore[arg-type]
            ServingMetrics(),
            self.killed.append,
            self._exit_of,
            lambda: None,
            lambda kind, slot, details: self.told.append(kind),
        )
        self.slot = Slot(WantedVersion("m", 1, "sha256:1", "/nowhere"), manifest, (), limits, around)

    async def _exit_of(self, pid: int) -> Exit:
        return self.exit

    def ask(self, value: float = 0.0, *, priority: int = 0) -> Callable[[], None]:
        return self.ask_rows([value], priority=priority)

    def ask_rows(self, values: Iterable[float], *, priority: int = 0) -> Callable[[], None]:
        """One request with a row for each value; its answer's values are noted in one string."""
        rows = np.array([[value, value] for value in values], np.float32)

        def done(result: Response | TowlineError) -> None:
            told = result.code if isinstance(result, TowlineError) else " ".join(f"{value:g}" for value in result.outputs["y"][:, 0])
            self.answers.append(told)

        return self.slot.infer(Request({"x": rows}, len(rows), priority=priority), done, "test")

    async def settle(self) -> None:
        for _ in range(40):
            await asyncio.sleep(0)


def play(scenario: Callable[[Scene], Any], **facts: Any) -> Scene:
    async def run() -> Scene:
        scene = Scene(**facts)
        await scene.slot.open()
        await scenario(scene)
        await scene.settle()
        return scene

    return asyncio.run(run())
