"""A run that nobody waits for is stopped; the next one in its slot never is in its place, however late the engine hears of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import late_terminate_worker
import numpy as np
import pytest
from late_terminate_worker import ENDS, WAITS
from uncounted import Uncounted

from towline.core import channel
from towline.core.arena import Arena
from towline.core.errors import EngineError
from towline.core.frames import write_frame
from towline.core.inference import Request
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec, encode_manifest
from towline.core.worker_messages import BATCH, DONE, FAILED, RUN
from towline.serve.jobs import Batch, Job
from towline.serve.workers.control import Loading
from towline.serve.workers.process import Worker

SLOT_BYTES = 1 << 16
SPEC = TensorSpec("x", "float32", ("N",))


def batch(kind: float) -> Batch:
    job = Job(Request({"x": np.full(1, kind, np.float32)}), lambda result: None, 4, 0.0, 60.0, None, Uncounted())
    return Batch([job], 1, 0.0)


class Scene:
    """A worker as the front sees it, with one slot; the test is the process at the other end."""

    def __init__(self) -> None:
        link, self.link = channel.channel()
        control, self.control = channel.channel()
        self.control.setblocking(False)
        self.link.setblocking(False)
        self.worker = Worker(asyncio.get_running_loop(), link, control)
        self.arena = Arena.create(slots=1, slot_bytes=SLOT_BYTES)
        self.worker.use_arena(self.arena)
        self.worker.threads = self.worker.idle = 1
        self.ended: list[Batch] = []
        self.worker.on_batch = lambda batch, result, spent_us: self.ended.append(batch)
        self.first = batch(ENDS)
        self.worker.run(self.first)
        assert BATCH.unpack(self.link.recv(64)) == (0, RUN, 0)

    def stop_the_first(self) -> None:
        self.first.jobs[0].abandon()
        self.worker.terminate_runs()

    async def answer(self, what: int) -> None:
        write_frame(self.arena.outputs, 0, SLOT_BYTES, [("x", (np.zeros(1, np.float32),))])
        self.link.send(BATCH.pack(0, what, 0))
        await turns()

    async def say_told(self, message: Any) -> None:
        channel.send(self.control, message)
        await turns()

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                received = channel.receive(self.control)
            except BlockingIOError:
                return found
            assert received is not None
            found.append(received[0]["do"])


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def play(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        scene = Scene()
        await scenario(scene)
        scene.worker.close()
        scene.link.close()
        scene.control.close()
        await turns()

    asyncio.run(run(), debug=True)


@pytest.mark.parametrize("what", [DONE, FAILED])
@pytest.mark.parametrize("told", [{"ok": {}}, {"error": {"message": "It knows no way."}}], ids=["heard", "cannot"])
def test_a_slot_is_given_to_no_other_run_before_the_engine_was_told_to_stop_the_one_that_ended(what: int, told: Any) -> None:
    async def scenario(scene: Scene) -> None:
        scene.stop_the_first()
        await scene.answer(what)
        assert (scene.worker.idle, scene.worker.running, scene.ended) == (0, [scene.first], [])
        await scene.say_told(told)
        assert (scene.worker.idle, scene.worker.running, scene.ended) == (1, [], [scene.first])
        scene.worker.run(batch(ENDS))
        assert BATCH.unpack(scene.link.recv(64)) == (0, RUN, 0)

    play(scenario)


def test_an_engine_that_was_told_first_ends_its_run_as_any_other() -> None:
    async def scenario(scene: Scene) -> None:
        scene.stop_the_first()
        scene.worker.terminate_runs()
        assert scene.heard() == ["terminate"]
        await scene.say_told({"ok": {}})
        assert (scene.worker.idle, scene.ended) == (0, [])
        # It had not begun when the engine was told, say: it is told again.
        scene.worker.terminate_runs()
        assert scene.heard() == ["terminate"]
        await scene.say_told({"ok": {}})
        await scene.answer(FAILED)
        assert (scene.worker.idle, scene.ended) == (1, [scene.first])

    play(scenario)


def test_a_worker_that_dies_before_it_heard_it_leaves_its_run_to_whoever_buries_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.stop_the_first()
        await scene.answer(DONE)
        scene.link.close()
        await turns()
        assert (scene.worker.is_dead, scene.worker.running, scene.ended) == (True, [scene.first], [])

    play(scenario)


def test_a_real_worker_that_hears_late_of_a_run_that_is_over_does_not_stop_the_next() -> None:
    link, their_link = channel.channel()
    control, their_control = channel.channel()
    ends = (their_link.fileno(), their_control.fileno())
    process = subprocess.Popen([sys.executable, Path(late_terminate_worker.__file__), *map(str, ends)], pass_fds=ends)
    their_link.close()
    their_control.close()

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        worker = Worker(loop, link, control)
        ended: asyncio.Queue[Any] = asyncio.Queue()
        worker.on_batch = lambda batch, result, spent_us: ended.put_nowait(
            result if isinstance(result, EngineError) else result["x"].copy()
        )
        arena = Arena.create(slots=1, slot_bytes=SLOT_BYTES)
        await worker.load(Loading("/", "", encode_manifest(manifest()).decode(), "cpu"), arena=arena, timeout_s=60)
        await worker.start(1)
        first = batch(ENDS)
        worker.run(first)
        first.jobs[0].abandon()
        worker.terminate_runs()
        await ended.get()
        worker.run(batch(WAITS))
        second = await ended.get()
        worker.close()
        return second

    try:
        assert not isinstance(answer := asyncio.run(asyncio.wait_for(scenario(), 120)), EngineError), answer
    finally:
        process.kill()
        process.wait()


def manifest() -> Manifest:
    return Manifest(
        format=1,
        engine="late",
        model_file="model.onnx",
        signatures={"serving_default": Signature((SPEC,), (SPEC,))},
        batchable=True,
        origin=Origin("onnx", "sha256:0"),
        facts=Facts(0, {}, {}),
        measured=Measured("any", True, 0, 0, 256),
        golden=(),
    )
