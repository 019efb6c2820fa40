"""The front's side of an answer in parts: each part is answered once, nothing unasked is believed, and whoever leaves ends the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from uncounted import Uncounted

from towline.core import channel
from towline.core.arena import Arena
from towline.core.errors import TowlineError
from towline.core.frames import write_frame
from towline.core.inference import Request, Response
from towline.core.worker_messages import BATCH, DONE, ENDED, FAILED, PART, STREAM
from towline.serve.jobs import Batch, Job
from towline.serve.workers.process import Worker

SLOT_BYTES = 1 << 16
EXPECTED = [{"y": np.dtype("float32")}]


class Scene:
    """A worker as the front sees it, with one stream running in slot 1; the test is the process at the other end."""

    def __init__(self, *, streams: bool = True) -> None:
        link, self.link = channel.channel()
        control, self.control = channel.channel()
        self.control.setblocking(False)
        self.worker = Worker(asyncio.get_running_loop(), link, control)
        self.arena = Arena.create(slots=2, slot_bytes=SLOT_BYTES)
        self.worker.use_arena(self.arena)
        self.worker.threads = self.worker.idle = 2
        self.parts: list[float] = []
        self.more: list[Callable[[], None]] = []
        self.results: list[Any] = []
        self.deaths = 0
        self.worker.on_batch = self._on_batch
        self.worker.on_part = lambda batch, outputs, more: batch.pass_on(outputs, EXPECTED, "m", 1, more)
        self.worker.on_death = self._on_death
        self.job = Job(
            Request({"x": np.zeros((1, 2), np.float32)}),
            self.results.append,
            8,
            0.0,
            60.0,
            None,
            Uncounted(),
            on_part=self._on_part if streams else None,
        )
        self.batch = Batch([self.job], 1, 0.0)
        self.worker.run(self.batch)
        self.asked = BATCH.unpack(self.link.recv(64))[:2]

    def _on_part(self, part: Response, more: Callable[[], None]) -> None:
        self.parts.append(float(part.outputs["y"][0]))
        self.more.append(more)

    def _on_batch(self, batch: Batch, result: Any, spent_us: int) -> None:
        if isinstance(result, dict):
            batch.finish(result, EXPECTED, "m", 1)
        else:
            batch.fail(result)

    def _on_death(self, worker: Worker) -> None:
        self.deaths += 1

    async def say(self, what: int, value: float | None = None, dtype: str = "float32") -> None:
        """Put a part into the slot, and send a message."""
        if value is not None:
            write_frame(self.arena.outputs, SLOT_BYTES, SLOT_BYTES, [("y", (np.array([value], dtype),))])
        self.link.send(BATCH.pack(1, what, 0))
        for _ in range(5):
            await asyncio.sleep(0)

    def replies(self) -> list[str]:
        """What the worker was told since the last look."""
        found = []
        while True:
            try:
                received = channel.receive(self.control)
            except BlockingIOError:
                return found
            assert received is not None
            found.append(str(received[0]["do"]))


def play(scenario: Callable[[Scene], Awaitable[None]], **facts: Any) -> Scene:
    async def run() -> Scene:
        scene = Scene(**facts)
        await scenario(scene)
        scene.worker.close()
        scene.link.close()
        scene.control.close()
        return scene

    return asyncio.run(run(), debug=True)


def test_the_next_part_is_asked_for_when_there_is_room_and_not_before() -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.asked == (1, STREAM)
        await scene.say(PART, 0.5)
        assert (scene.parts, scene.replies()) == ([0.5], [])
        scene.more[0]()
        scene.more[0]()
        assert scene.replies() == ["more"]
        await scene.say(PART, 1.5)
        # Of an earlier part: it asks for nothing.
        scene.more[0]()
        assert scene.replies() == []
        scene.more[1]()
        await scene.say(ENDED)

    scene = play(scenario)

    assert scene.parts == [0.5, 1.5]
    assert [result.outputs for result in scene.results] == [{}]
    assert (scene.deaths, scene.worker.running) == (0, [])


def test_a_client_that_left_while_a_part_was_made_ends_the_stream_with_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.job.abandon()
        await scene.say(PART, 0.5)
        assert (scene.parts, scene.replies()) == ([], ["stop"])
        await scene.say(ENDED)
        assert scene.worker.running == []

    assert play(scenario).deaths == 0


def test_a_client_that_left_without_taking_its_part_does_not_leave_the_worker_waiting() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.say(PART, 0.5)
        scene.job.abandon()
        scene.worker.terminate_runs()
        scene.worker.terminate_runs()
        scene.more[0]()
        assert scene.replies()[:1] == ["stop"]

    play(scenario)


def test_a_part_that_is_not_what_the_signature_says_is_an_error_and_the_end() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.say(PART, 0.5, dtype="float64")
        assert scene.replies() == ["stop"]

    scene = play(scenario)

    assert [result.code for result in scene.results] == ["BAD_OUTPUT"]


def test_an_error_after_a_part_reaches_whoever_waits() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.say(PART, 0.5)
        scene.more[0]()
        raw = json.dumps({"code": "HANDLER_FAILED", "message": "no", "kind": "internal"}).encode()
        scene.arena.outputs[SLOT_BYTES : SLOT_BYTES + len(raw)] = raw
        scene.link.send(BATCH.pack(1, FAILED, len(raw)))
        await asyncio.sleep(0.01)

    scene = play(scenario)

    assert isinstance(scene.results[0], TowlineError)
    assert scene.results[0].code == "HANDLER_FAILED"


def test_a_worker_that_fails_before_its_part_was_answered_does_not_hurt_who_asks_for_the_next_one() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.say(PART, 0.5)
        await scene.say(FAILED)
        assert scene.worker.running == []
        scene.more[0]()

    scene = play(scenario)

    assert [isinstance(result, TowlineError) for result in scene.results] == [True]


def test_a_protocol_that_fails_over_a_part_ends_the_stream_with_an_error() -> None:
    def fail(part: Response, more: Callable[[], None]) -> None:
        raise ArithmeticError

    async def scenario(scene: Scene) -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))
        scene.job.on_part = fail
        await scene.say(PART, 0.5)
        assert scene.replies() == ["stop"]
        assert [type(fault) for fault in faults] == [ArithmeticError]

    assert [result.code for result in play(scenario).results] == ["INTERNAL"]


@pytest.mark.parametrize("what", [PART, ENDED])
def test_parts_of_a_run_that_was_asked_for_whole_are_the_end_of_that_worker(what: int) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.say(what, 0.5)

    scene = play(scenario, streams=False)

    assert (scene.deaths, scene.parts) == (1, [])


def test_a_part_before_the_last_was_answered_is_the_end_of_that_worker() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.say(PART, 0.5)
        await scene.say(PART, 1.5)

    scene = play(scenario)

    assert (scene.deaths, scene.parts) == (1, [0.5])


def test_a_worker_that_gives_all_at_once_where_parts_were_asked_for_gives_the_whole_answer() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.say(DONE, 2.5)

    scene = play(scenario)

    assert scene.parts == []
    assert scene.results[0].outputs["y"].dtype == np.float32
