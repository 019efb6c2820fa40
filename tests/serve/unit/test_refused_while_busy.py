"""A batch that is refused while every slot of its worker is taken: its jobs run again, and none is lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
from uncounted import Uncounted

from towline.core import channel
from towline.core.arena import Arena
from towline.core.errors import TowlineError
from towline.core.frames import encode_frame
from towline.core.inference import Request, Response
from towline.core.worker_messages import BATCH, DONE, FAILED, RUN
from towline.serve.batcher import Batcher
from towline.serve.jobs import Batch, Job
from towline.serve.workers.process import Worker

SLOT_BYTES = 1 << 16
REFUSAL = json.dumps({"code": "ENGINE_REFUSED", "message": "no", "kind": "invalid"}).encode()


def test_jobs_of_a_refused_batch_run_again_although_all_slots_are_taken() -> None:
    answers: list[str] = []

    def job(value: float, *, group: int | None = 1) -> Job:
        request = Request({"x": np.full((1, 1), value, np.float32)})

        def done(result: Response | TowlineError) -> None:
            answers.append(result.code if isinstance(result, TowlineError) else f"{result.outputs['y'][0, 0]:g}")

        return Job(request, done, 4, 0.0, 60.0, group, Uncounted())

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        link, their_link = channel.channel()
        their_link.settimeout(2.0)
        control, their_control = channel.channel()
        worker, arena = Worker(loop, link, control), Arena.create(slots=2, slot_bytes=SLOT_BYTES)
        worker.use_arena(arena)
        worker.threads = worker.idle = 2
        batcher = Batcher(max_rows=8, max_bytes=1 << 20, clock=lambda: 0.0, loop=loop)
        batcher.lane = worker

        def on_batch(batch: Batch, result: Any, spent_us: int) -> None:
            if isinstance(result, TowlineError):
                for one in batch.jobs:
                    one.group = None
                batcher.put_back(batch.jobs)
            else:
                batch.finish(result, ({"y": np.dtype(np.float32)},), "m", 1)
            batcher.flush_after_reading()

        worker.on_batch = on_batch
        worker.run(Batch([job(1), job(2)], 2, 0.0))
        worker.run(Batch([job(3)], 1, 0.0))
        refused = BATCH.unpack(their_link.recv(64))[0]
        taken = BATCH.unpack(their_link.recv(64))[0]
        arena.outputs[refused * SLOT_BYTES : refused * SLOT_BYTES + len(REFUSAL)] = REFUSAL
        their_link.send(BATCH.pack(refused, FAILED, len(REFUSAL)))
        for value in (1, 2):
            await settle()
            slot, what, _ = BATCH.unpack(their_link.recv(64))
            assert (slot, what) == (refused, RUN)
            answer(arena, slot, value)
            their_link.send(BATCH.pack(slot, DONE, 1))
        answer(arena, taken, 3)
        their_link.send(BATCH.pack(taken, DONE, 1))
        await settle()
        worker.close()
        for end in (their_link, their_control):
            end.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))

    assert answers == ["1", "2", "3"]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def answer(arena: Arena, slot: int, value: float) -> None:
    raw = encode_frame({"y": np.full((1, 1), value, np.float32)})
    arena.outputs[slot * SLOT_BYTES : slot * SLOT_BYTES + len(raw)] = raw
