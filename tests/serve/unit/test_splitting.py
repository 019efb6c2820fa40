"""A request of more rows than a run takes is run in parts and answered as one, or refused as one."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from slot_scene import LIMITS, MANIFEST, Scene, play

from towline.core.errors import Kind, TowlineError

SMALL = replace(LIMITS, max_batch=4)


def rows_ran(scene: Scene) -> list[int]:
    return [rows for place in scene.places.given for rows in place.rows_ran]


def test_its_rows_come_back_in_their_order_and_it_is_counted_once() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask_rows(range(10))
        await scene.settle()

    scene = play(scenario, limits=SMALL)

    assert scene.answers == ["0 1 2 3 4 5 6 7 8 9"]
    assert rows_ran(scene) == [4, 4, 2]
    assert scene.slot.leases == 0
    (meter,) = scene.slot.meters
    assert (meter.inflight, meter.codes) == (0, {"OK": 1})  # type: ignore[attr-defined]


def test_a_request_that_fits_and_a_version_that_may_not_be_batched_run_whole() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask_rows(range(4))
        await scene.settle()

    async def larger(scene: Scene) -> None:
        scene.ask_rows(range(10))
        await scene.settle()

    assert rows_ran(play(scenario, limits=SMALL)) == [4]
    assert rows_ran(play(larger, limits=SMALL, manifest=msgspec.structs.replace(MANIFEST, batchable=False))) == [10]


def test_the_first_refusal_is_its_own_and_what_waits_of_it_is_not_run() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask_rows(range(12))
        await scene.settle()
        scene.places.given[0].finish(TowlineError("no", code="ENGINE_REFUSED", kind=Kind.INVALID))
        await scene.settle()
        scene.ask(99)
        await scene.settle()
        scene.places.given[0].finish()

    scene = play(scenario, is_slow=True, limits=SMALL)

    assert scene.answers == ["ENGINE_REFUSED", "99"]
    assert rows_ran(scene) == [4, 1]
    assert scene.slot.leases == 0


def test_a_client_that_goes_leaves_no_part_behind() -> None:
    async def scenario(scene: Scene) -> None:
        gone = scene.ask_rows(range(12))
        await scene.settle()
        gone()
        scene.places.given[0].finish()
        await scene.settle()

    scene = play(scenario, is_slow=True, limits=SMALL)

    assert scene.answers == []
    assert rows_ran(scene) == [4]
    assert scene.slot.leases == 0


def test_a_worker_that_dies_under_a_part_costs_the_request_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask_rows(range(8))
        await scene.settle()
        scene.places.given[0].finish()
        await scene.settle()
        scene.places.given[0].die()
        for _ in range(3):
            await scene.settle()
            scene.places.given[-1].finish()

    scene = play(scenario, is_slow=True, limits=SMALL)

    assert scene.answers == ["0 1 2 3 4 5 6 7"]
    assert len(scene.places.given) == 2
