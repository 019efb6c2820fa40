"""Load one version in several ways at a time, and press each through the very data plane that `towline serve` answers with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from towline.core.config import Settings
from towline.core.errors import DeadlineExceeded, TowlineError, Unavailable
from towline.core.inference import Request
from towline.monitor.metrics import ServingMetrics
from towline.monitor.process import sample_process
from towline.optimize.runtime import Reading, Setting
from towline.serve.embedded import Embedded, Lent
from towline.serve.router import WantedModel, WantedVersion
from towline.serve.slots import Slot

WARM_S = 0.05
# A window goes on until it has seen so many answers, or for so long.
LEAST_ANSWERS = 5
LONGEST_S = 10.0
_NUMBER = 1


@dataclass(frozen=True)
class Model:
    """What one engine loads: a folder with a manifest, its digest, and the requests it is asked, a row each."""

    folder: Path
    digest: str
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Window:
    """What came of pressing one setting for a while: seconds of each answer, how long it was, processor seconds of the workers."""

    setting: Setting
    clients: int
    latencies_s: tuple[float, ...]
    seconds: float
    cpu_s: float
    memory_bytes: int


class Press:
    """Made on the event loop. `models` by engine; an empty name is the version as it is. `close` ends every worker."""

    def __init__(self, models: Mapping[str, Model], settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._planes: dict[str, Embedded] = {}
        self._names: dict[Setting, str] = {}
        self._numbers = count(1)

    async def load(self, settings: Sequence[Setting]) -> None:
        """Have these loaded and no others, each in workers of its own. Raises TowlineError when one cannot be."""
        for setting in [one for one in self._names if one not in settings]:
            del self._names[setting]
        for setting in settings:
            self._names.setdefault(setting, f"setting-{next(self._numbers)}")
        for device in {*self._planes, *(one.device for one in settings)}:
            plane = await self._plane(device)
            await plane.want([self._wanted(one, name) for one, name in self._names.items() if one.device == device])
            await plane.settle()
        for setting in settings:
            if len(self._slot(setting).pids) < setting.runtime.instances:
                raise Unavailable(f"There is no room for {setting.runtime.instances} workers of it at a time.")

    async def _plane(self, device: str) -> Embedded:
        if device not in self._planes:
            own = replace(self._settings, device=device)
            self._planes[device] = plane = Embedded(own, Lent(ServingMetrics(), lambda slots: b""))
            await plane.start([])
        return self._planes[device]

    def _wanted(self, setting: Setting, name: str) -> WantedModel:
        model = self._models[setting.engine]
        return WantedModel(name, (WantedVersion(name, _NUMBER, model.digest, str(model.folder), setting.runtime),), _NUMBER)

    def runs_at_once(self, setting: Setting) -> int:
        return self._slot(setting).runs_at_once

    def _slot(self, setting: Setting) -> Slot:
        found = self._planes[setting.device].plane.find(self._names[setting])
        assert isinstance(found, Slot)
        return found

    async def window(self, setting: Setting, clients: int, seconds: float) -> Window:
        """Let `clients` ask without a pause, each for a row at a time. Raises TowlineError when one is refused."""
        slot, plane, requests = self._slot(setting), self._planes[setting.device], self._models[setting.engine].requests
        latencies: list[float] = []

        async def client(place: int) -> None:
            while True:
                began_s = time.perf_counter()
                await plane.infer(slot, requests[place % len(requests)])
                latencies.append(time.perf_counter() - began_s)
                place += clients

        asking = [asyncio.ensure_future(client(place)) for place in range(clients)]
        try:
            await _sleep(WARM_S, asking)
            first, cpu_s, began_s = len(latencies), _cpu_s(slot), time.perf_counter()
            await _sleep(seconds, asking)
            while len(latencies) - first < LEAST_ANSWERS and time.perf_counter() - began_s < LONGEST_S:
                await _sleep(seconds, asking)
            took_s, spent_s, last = time.perf_counter() - began_s, _cpu_s(slot) - cpu_s, len(latencies)
        finally:
            # What waits is given up: the next window does not wait for it.
            for task in asking:
                task.cancel()
            ends = await asyncio.gather(*asking, return_exceptions=True)
        if refused := next((end for end in ends if isinstance(end, TowlineError)), None):
            raise refused
        if last == first:
            raise DeadlineExceeded(f"It gave no answer within {LONGEST_S:g} s.")
        return Window(setting, clients, tuple(latencies[first:last]), took_s, spent_s, _memory_bytes(slot))

    def cpu_s(self) -> float:
        """Processor seconds of all workers until now."""
        return sum(_cpu_s(slot) for plane in self._planes.values() for slot in plane.plane.slots())

    async def close(self) -> None:
        for plane in self._planes.values():
            await plane.stop()


async def _sleep(seconds: float, asking: Sequence[asyncio.Future[None]]) -> None:
    """Until the time is up, or a client was refused."""
    await asyncio.wait(asking, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)


def _cpu_s(slot: Slot) -> float:
    return sum(found.cpu_s for pid in slot.pids if (found := sample_process(pid, "worker")) is not None)


def _memory_bytes(slot: Slot) -> int:
    return sum(found.resident_bytes for pid in slot.pids if (found := sample_process(pid, "worker")) is not None)


def reading(windows: Sequence[Window]) -> Reading:
    """Of the windows of one setting under one load, a turn each."""
    latencies = np.array([one for window in windows for one in window.latencies_s]) * 1000
    rows = len(latencies)
    seconds = sum(window.seconds for window in windows)
    p50, p99 = np.percentile(latencies, [50, 99])
    return Reading(
        windows[0].setting,
        windows[0].clients,
        rows / seconds,
        float(p50),
        float(p99),
        sum(window.cpu_s for window in windows) / rows * 1e6,
        windows[-1].memory_bytes,
        tuple(len(window.latencies_s) / window.seconds for window in windows),
        tuple(float(np.median(window.latencies_s)) * 1000 for window in windows),
    )
