"""A slot with a user's handler: what may have done more than answer is never run twice, unless the handler says that it may."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from slot_scene import MANIFEST, Scene, play

from towline.core.errors import Kind, TowlineError
from towline.core.inference import Request, Response
from towline.core.manifest import Handler, Manifest
from towline.serve.jobs import Batch
from towline.serve.workers.hub import Exit


def handler(**traits: Any) -> Manifest:
    return msgspec.structs.replace(MANIFEST, handler=Handler("Mine", **traits))


FAILED = TowlineError("no", code="HANDLER_FAILED")
REFUSED = TowlineError("no", code="NOT_THAT", kind=Kind.INVALID)
STOPPED = TowlineError("stopped", code="TERMINATED", kind=Kind.DEADLINE)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize(("idempotent", "answers"), [(False, ["WORKER_DIED", "WORKER_DIED"]), (True, ["1", "2"])])
def test_what_ran_when_a_worker_died_runs_again_only_where_the_handler_says_so(idempotent: bool, answers: list[str], number: int) -> None:
    async def scenario(scene: Scene) -> None:
        scene.exit = Exit(number)
        for value in (1, 2):
            scene.ask(value)
        await scene.settle()
        scene.places.given[0].die()
        for _ in range(3):
            await scene.settle()
            for place in scene.places.given[1:]:
                place.finish()

    assert play(scenario, is_slow=True, manifest=handler(idempotent=idempotent)).answers == answers


@pytest.mark.parametrize(
    ("idempotent", "error", "answers", "ran"),
    [
        (False, FAILED, ["HANDLER_FAILED", "HANDLER_FAILED"], [2]),
        (True, FAILED, ["1", "2"], [2, 1, 1]),
        (False, REFUSED, ["1", "2"], [2, 1, 1]),
        (False, STOPPED, ["RUN_STOPPED", "RUN_STOPPED"], [2]),
    ],
)
def test_a_batch_that_failed_is_taken_apart_only_where_nothing_can_have_happened(
    idempotent: bool, error: TowlineError, answers: list[str], ran: list[int]
) -> None:
    async def scenario(scene: Scene) -> None:
        for value in (1, 2):
            scene.ask(value)
        await scene.settle()
        scene.places.given[0].finish(error)
        for _ in range(2):
            await scene.settle()
            scene.places.given[0].finish()

    scene = play(scenario, is_slow=True, manifest=handler(idempotent=idempotent))

    assert scene.answers == answers
    assert scene.places.given[0].ran == ran


class Parts:
    """Takes an answer in parts."""

    def __init__(self, scene: Scene) -> None:
        self.seen: list[float] = []
        self._scene = scene
        request = Request({"x": np.zeros((1, 2), np.float32)})
        self.cancel = scene.slot.infer(request, self._done, "test", self._on_part)

    def _on_part(self, part: Response, more: Callable[[], None]) -> None:
        self.seen.append(float(part.outputs["y"][0, 0]))
        more()

    def _done(self, result: Response | TowlineError) -> None:
        self._scene.answers.append(result.code if isinstance(result, TowlineError) else f"end {len(result.outputs)}")


def give(batch: Batch, scene: Scene, value: float) -> bool:
    asked: list[bool] = []
    scene.places.given[0].on_part(batch, {"y": np.full((1, 2), value, np.float32)}, lambda: asked.append(True))
    return bool(asked)


def test_parts_are_passed_on_and_the_end_has_no_outputs() -> None:
    async def scenario(scene: Scene) -> None:
        parts = Parts(scene)
        await scene.settle()
        (batch,) = scene.places.given[0].running
        assert give(batch, scene, 1)
        assert give(batch, scene, 2)
        assert scene.slot.leases == 1
        scene.places.given[0].running.clear()
        scene.places.given[0].on_batch(batch, {}, 1)
        assert (parts.seen, scene.slot.leases) == ([1, 2], 0)

    assert play(scenario, is_slow=True, manifest=handler(streams=True)).answers == ["end 0"]


def test_a_stream_that_has_begun_is_never_begun_again() -> None:
    async def scenario(scene: Scene) -> None:
        begun, waiting = Parts(scene), Parts(scene)
        await scene.settle()
        (batch,) = scene.places.given[0].running
        give(batch, scene, 1)
        scene.places.given[0].die()
        await scene.settle()
        (second,) = scene.places.given[1].running
        assert (begun.seen, second.jobs[0].on_part) == ([1], waiting._on_part)

    scene = play(scenario, is_slow=True, manifest=handler(streams=True, idempotent=True))

    assert scene.answers == ["WORKER_DIED"]


def test_a_client_that_left_a_stream_hears_nothing_more() -> None:
    async def scenario(scene: Scene) -> None:
        parts = Parts(scene)
        await scene.settle()
        (batch,) = scene.places.given[0].running
        parts.cancel()
        assert not give(batch, scene, 1)
        assert parts.seen == []

    assert play(scenario, is_slow=True, manifest=handler(streams=True)).answers == []


def test_who_streams_shares_no_batch_and_what_does_not_stream_answers_whole() -> None:
    async def streaming(scene: Scene) -> None:
        for _ in range(3):
            Parts(scene)
        await scene.settle()

    async def whole(scene: Scene) -> None:
        for _ in range(2):
            Parts(scene)
        await scene.settle()
        assert scene.places.given[0].ran == [2]
        scene.places.given[0].finish()

    assert play(streaming, is_slow=True, manifest=handler(streams=True)).places.given[0].ran == [1]
    assert play(whole, is_slow=True).answers == ["end 1", "end 1"]
