"""A worker whose batches gain nothing by waiting in the front has the next one before a run ends; what waits there is no run yet."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from slot_scene import MANIFEST, Scene, play
from uncounted import Uncounted
from worker_scene import SLOT_BYTES, WorkerScene

from towline.app.importing.model import import_model
from towline.core import channel
from towline.core.config import Settings
from towline.core.frames import write_frame
from towline.core.inference import Request
from towline.core.manifest import Handler, Manifest
from towline.core.warmup import WarmReport
from towline.core.worker_messages import BATCH, DONE, RUN
from towline.monitor.metrics import ServingMetrics
from towline.serve import lanes
from towline.serve.embedded import Embedded, Lent
from towline.serve.jobs import Batch, Job
from towline.serve.lanes import ahead_pays
from towline.serve.router import WantedModel, WantedVersion
from towline.testing import tiny_models

UNMERGED = msgspec.structs.replace(MANIFEST, batchable=False)
MOBILENET = WarmReport(True, "", 11_000.0, 90_000.0)


@pytest.mark.parametrize(
    ("manifest", "report", "ahead"),
    [
        (MANIFEST, MOBILENET, 1),
        (MANIFEST, replace(MOBILENET, eight_rows_us=20_000.0), 0),  # while it waits in the front, its batch grows
        (UNMERGED, WarmReport(True, "", 11_000.0), 1),
        (MANIFEST, WarmReport(True, "", 13.0, 100.0), 0),  # tiny: it runs in the receiving thread, which reads the next itself
        (MANIFEST, WarmReport(True, "", 400_000.0, 3_200_000.0), 0),  # the front's turn is not felt
        (MANIFEST, WarmReport(True), 0),  # not measured
        (msgspec.structs.replace(UNMERGED, handler=Handler("Mine")), WarmReport(True, "", 11_000.0), 0),
    ],
)
def test_what_gains_nothing_by_waiting_is_given_ahead(manifest: Manifest, report: WarmReport, ahead: int) -> None:
    assert ahead_pays(manifest, report) == ahead


class Link(WorkerScene):
    """Its worker is given one batch ahead."""

    async def begin(self, threads: int) -> None:
        await self.start({"ok": {}}, threads=threads, ahead=1)
        os.set_blocking(self.pipes[0], False)
        self.control.setblocking(False)

    def given(self) -> list[int]:
        """Slots of the batches that stand in the pipe."""
        messages = os.read(self.pipes[0], 1024)
        return [slot for slot, what, _ in BATCH.iter_unpack(messages) if what == RUN]

    async def answer(self, slot: int) -> None:
        write_frame(self.arena.outputs, slot * SLOT_BYTES, SLOT_BYTES, [("y", (np.zeros(1, np.float32),))])
        os.write(self.pipes[1], BATCH.pack(slot, DONE, 1))
        for _ in range(5):
            await asyncio.sleep(0)

    def told_to_stop(self) -> list[int]:
        """Slots whose runs are to end, as the control channel says by now."""
        told: list[int] = []
        while True:
            try:
                received = channel.receive(self.control)
            except BlockingIOError:
                return told
            assert received is not None
            told.append(received[0]["slot"])


def batch(*, deadline: float = 60.0) -> Batch:
    return Batch([Job(Request({"x": np.ones((1, 2), np.float32)}), lambda result: None, 8, 0.0, deadline, None, Uncounted())], 1, 0.0)


def test_the_next_batch_stands_in_the_pipe_when_a_run_ends() -> None:
    async def scenario() -> None:
        place = Link(slots=3)
        await place.begin(2)
        assert (place.worker.threads, place.worker.idle) == (2, 3)
        for _ in range(3):
            place.worker.run(batch())
        slots = place.given()
        assert (sorted(slots), place.worker.idle) == ([0, 1, 2], 0)
        await place.answer(slots[0])
        assert place.worker.idle == 1
        place.close()

    asyncio.run(scenario())


def test_none_is_given_ahead_without_memory_for_it() -> None:
    async def scenario() -> None:
        place = Link(slots=2)
        await place.begin(2)
        assert (place.worker.threads, place.worker.idle) == (2, 2)
        place.close()

    asyncio.run(scenario())


def test_what_was_given_ahead_is_told_to_stop_once_it_runs() -> None:
    async def scenario() -> None:
        place = Link(slots=2)
        await place.begin(1)
        runs, waits = batch(), batch()
        for one in (runs, waits):
            place.worker.run(one)
        first, second = place.given()
        waits.jobs[0].abandon()
        place.worker.terminate_runs()
        assert place.told_to_stop() == []
        await place.answer(first)
        place.worker.terminate_runs()
        assert place.told_to_stop() == [second]
        place.close()

    asyncio.run(scenario())


def test_no_worker_is_replaced_over_what_waits_at_it_but_over_what_does_not_stop() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask(1)
        await scene.settle()
        (place,) = scene.places.given
        place.running.append(batch(deadline=0.5))
        for scene.now_s in (0.6, 5.0, 30.0):
            scene.slot.tick()
        assert (place.terminated, scene.killed) == (0, [])
        # It runs now.
        place.running.pop(0)
        scene.slot.tick()
        assert (place.terminated, scene.killed) == (1, [])
        scene.now_s += 1.1
        scene.slot.tick()
        assert scene.killed == [place.pid]

    play(scenario, is_slow=True)


def test_a_version_that_gains_by_it_is_opened_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "merging_pays", lambda report: False)
    monkeypatch.setattr(lanes, "TINY_RUN_US", 0)
    version = import_model(tiny_models.write(tmp_path, tiny_models.identity(), "same.onnx"), home=tmp_path / "home").version

    async def opened() -> tuple[int, int]:
        embedded = Embedded(Settings(), Lent(ServingMetrics(), lambda slots: b""))
        try:
            await embedded.start([WantedModel("m", (WantedVersion("m", 1, version.digest, str(version.path)),), 1)])
            await embedded.settle()
            (slot,) = embedded.plane.slots()
            lane: Any = slot._staff.crew.lane
            return lane.idle, lane.threads
        finally:
            await embedded.stop()

    idle, threads = asyncio.run(asyncio.wait_for(opened(), 60))

    assert idle == threads + 1
