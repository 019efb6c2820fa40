"""Whatever the other end of a worker's sockets says, the front keeps its head: an error for the batch, or a dead worker, never a hang."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from uncounted import Uncounted

from towline.core import channel
from towline.core.arena import Arena
from towline.core.errors import TowlineError
from towline.core.inference import Request
from towline.core.warmup import WarmReport
from towline.core.worker_messages import BATCH, DONE, FAILED, RUN
from towline.serve.jobs import Batch, Job
from towline.serve.workers.process import Worker

SLOT_BYTES = 1 << 16


class Scene:
    """A worker as the front sees it, with one batch running in slot 1; the test is the process at the other end."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        link, self.link = channel.channel()
        control, self.control = channel.channel()
        self.worker = Worker(loop, link, control)
        self.arena = Arena.create(slots=2, slot_bytes=SLOT_BYTES)
        self.worker.use_arena(self.arena)
        self.worker.threads = self.worker.idle = 2
        self.results: list[Any] = []
        self.deaths = 0
        self.worker.on_batch = lambda batch, result, spent_us: self.results.append(result)
        self.worker.on_death = self._on_death
        request = Request({"x": np.zeros((1, 2), np.float32)})
        job = Job(request, lambda result: None, 8, 0.0, 60.0, 1, Uncounted())
        self.worker.run(Batch([job], 1, 0.0))
        slot, what, _ = BATCH.unpack(self.link.recv(64))
        assert (slot, what) == (1, RUN)

    def _on_death(self, worker: Worker) -> None:
        self.deaths += 1

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def close(self) -> None:
        self.worker.close()
        self.link.close()
        self.control.close()


def play(scenario: Callable[[Scene], None]) -> Scene:
    async def run() -> Scene:
        scene = Scene()
        scenario(scene)
        await scene.settle()
        scene.close()
        return scene

    return asyncio.run(run(), debug=True)


def put_outputs(scene: Scene, raw: bytes, slot: int = 1) -> None:
    scene.arena.outputs[slot * SLOT_BYTES : slot * SLOT_BYTES + len(raw)] = raw


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        BATCH.pack(1, DONE, 0) + b"x",
        BATCH.pack(0, DONE, 0),
        BATCH.pack(65535, DONE, 0),
        BATCH.pack(1, RUN, 0),
        BATCH.pack(1, 77, 0),
    ],
    ids=["end", "short", "long", "a slot that is not running", "no such slot", "a run", "nonsense"],
)
def test_an_answer_to_what_was_not_asked_is_the_end_of_that_worker(message: bytes) -> None:
    scene = play(lambda scene: scene.link.close() if not message else scene.link.send(message) and None)

    assert (scene.deaths, scene.results) == (1, [])
    assert [len(batch.jobs) for batch in scene.worker.running] == [1]


@pytest.mark.parametrize(
    ("what", "argument", "outputs"),
    [
        (DONE, 0, b""),
        (DONE, 0, b"\xff" * 256),
        (DONE, 0, struct.pack("<IIQ", 0x31465754, 1 << 30, 1 << 40)),
        (FAILED, 0, b""),
        (FAILED, 2**32 - 1, b"\xff" * 5000),
        (FAILED, 2048, b"[" * 2048),
        (FAILED, 2048, b'{"a":' * 400),
        (FAILED, 4, b"null"),
        (FAILED, 5, b'"abc"'),
    ],
)
def test_an_answer_that_is_none_fails_its_batch_and_the_slot_is_used_again(what: int, argument: int, outputs: bytes) -> None:
    def scenario(scene: Scene) -> None:
        put_outputs(scene, outputs)
        scene.link.send(BATCH.pack(1, what, argument))

    scene = play(scenario)

    assert [isinstance(result, TowlineError) for result in scene.results] == [True]
    assert len(scene.results[0].message) <= 512
    assert scene.deaths == 0
    assert scene.worker.running == []


def test_an_error_with_words_of_its_own_is_cut_and_its_kind_is_one_of_ours() -> None:
    raw = json.dumps({"code": "X" * 300, "message": "m" * 1000, "kind": "no such kind"}).encode()

    def scenario(scene: Scene) -> None:
        put_outputs(scene, raw)
        scene.link.send(BATCH.pack(1, FAILED, len(raw)))

    (error,) = play(scenario).results

    assert (len(error.code), len(error.message), error.kind.value) == (64, 512, "internal")


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b"[1]",
        b"null",
        b"7",
        b"[" * 50_000,
        b'{"hello": "me"}',
        b'{"hello": null}',
        b'{"hello": [1]}',
    ],
)
def test_a_control_message_that_is_none_is_the_end_of_that_worker(raw: bytes) -> None:
    assert play(lambda scene: scene.control.send(raw) and None).deaths == 1


@pytest.mark.parametrize("raw", [b"{}", b'{"ok": 3}', b'{"ok": null}', b'{"error": 3}', b'{"error": {"kind": []}}', b'{"surprise": 1}'])
def test_an_answer_to_a_question_that_is_none_is_an_error(raw: bytes) -> None:
    async def run() -> None:
        scene = Scene()
        asked = asyncio.ensure_future(scene.worker.ask({"do": "ping"}, timeout_s=60))
        await scene.settle()
        scene.control.send(raw)
        with pytest.raises(TowlineError):
            await asked
        scene.close()

    asyncio.run(run())


def test_answers_nobody_asked_for_are_ignored() -> None:
    assert play(lambda scene: scene.control.send(b'{"ok": {}}') and None).deaths == 0


def test_descriptors_that_come_along_are_closed() -> None:
    with socket.socket() as extra:
        scene = play(lambda scene: channel.send(scene.control, {"ok": {}}, [extra.fileno()] * 4))

    assert scene.deaths == 0


@pytest.mark.parametrize("told", ["fast", None, [], {}, float("nan")])
def test_a_time_that_is_no_number_counts_as_not_measured(told: Any) -> None:
    report = WarmReport.from_message({"is_ready": True, "one_row_us": told, "eight_rows_us": told})

    assert (report.one_row_us, report.eight_rows_us) == (-1.0, -1.0)
