"""Batches travel in pipes once a worker was started: to it, back from it, and its end is noticed there too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from uncounted import Uncounted
from worker_scene import SLOT_BYTES, WorkerScene

from towline.core.errors import TowlineError
from towline.core.frames import write_frame
from towline.core.inference import Request
from towline.core.worker_messages import BATCH, DONE, MOVE, RUN
from towline.serve.jobs import Batch, Job


def play(scenario: Callable[[WorkerScene], Awaitable[None]]) -> None:
    async def run() -> None:
        before = pipes()
        scene = WorkerScene()
        await scenario(scene)
        scene.close()
        assert pipes() == before

    asyncio.run(run())


def pipes() -> list[str]:
    """Those this process has an end of."""
    return sorted(os.readlink(end) for end in Path("/proc/self/fd").iterdir() if end.is_symlink() and "pipe:" in os.readlink(end))


def batch(value: float) -> Batch:
    request = Request({"x": np.full((1, 2), value, np.float32)})
    return Batch([Job(request, lambda result: None, 8, 0.0, 60.0, 1, Uncounted())], 1, 0.0)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_each_thread_is_told_once_to_move_and_batches_go_there_and_back_in_pipes() -> None:
    async def scenario(scene: WorkerScene) -> None:
        await scene.start({"ok": {}})
        assert [BATCH.unpack(scene.link.recv(64)) for _ in range(2)] == [(0, MOVE, 0)] * 2
        scene.worker.run(batch(1.0))
        scene.worker.run(batch(2.0))
        # Of two that stand in the pipe each thread takes one.
        slots = [BATCH.unpack(os.read(scene.pipes[0], BATCH.size)) for _ in range(2)]
        assert sorted(slots) == [(0, RUN, 0), (1, RUN, 0)]
        for slot, _, _ in slots:
            write_frame(scene.arena.outputs, slot * SLOT_BYTES, SLOT_BYTES, [("y", (np.full(1, slot, np.int64),))])
            os.write(scene.pipes[1], BATCH.pack(slot, DONE, 1))
        await turns()
        assert (sorted(int(result["y"][0]) for result in scene.results), scene.deaths) == ([0, 1], 0)

    play(scenario)


@pytest.mark.parametrize("said", [b"abc", BATCH.pack(1, DONE, 1), BATCH.pack(0, MOVE, 0), b"\xff" * 8], ids=["torn", "idle", "move", "ff"])
def test_a_worker_that_says_nonsense_in_its_pipe_is_dead(said: bytes) -> None:
    async def scenario(scene: WorkerScene) -> None:
        await scene.start({"ok": {}})
        scene.worker.run(batch(1.0))
        (slot, _, _) = BATCH.unpack(os.read(scene.pipes[0], BATCH.size))
        os.write(scene.pipes[1], BATCH.pack(1 - slot, DONE, 1) if said == BATCH.pack(1, DONE, 1) else said)
        await turns()
        assert (scene.deaths, scene.results, scene.worker.is_dead, scene.worker.idle) == (1, [], True, 0)

    play(scenario)


def test_the_end_of_its_pipe_is_the_end_of_a_worker() -> None:
    async def scenario(scene: WorkerScene) -> None:
        await scene.start({"ok": {}})
        os.close(scene.pipes.pop())
        await turns()
        assert scene.deaths == 1

    play(scenario)


def test_a_worker_that_cannot_start_leaves_no_pipes_behind() -> None:
    async def scenario(scene: WorkerScene) -> None:
        with pytest.raises(TowlineError):
            await scene.start({"error": {"message": "There is no room for a thread."}})

    play(scenario)
