"""A version in several workers: each takes batches, and the death of one costs the others nothing."""

from __future__ import annotations

from dataclasses import replace

from slot_scene import LIMITS, Scene, play

THREE = replace(LIMITS, instances=3)


def test_a_slot_is_ready_with_its_first_worker_and_gets_the_others_meanwhile() -> None:
    async def scenario(scene: Scene) -> None:
        assert (scene.slot.state, len(scene.slot.pids), scene.slot.lanes_to_come) == ("ready", 1, 2)
        await scene.settle()
        assert scene.slot.pids == (100, 101, 102)
        assert scene.slot.lanes_to_come == 0
        assert scene.slot.state == "ready"

    play(scenario, limits=THREE)


def test_what_waits_is_spread_over_the_workers() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.settle()
        for value in range(6):
            scene.ask(value)
        await scene.settle()
        assert [len(place.running) for place in scene.places.given] == [1, 1, 1]
        for place in scene.places.given:
            place.finish()

    scene = play(scenario, is_slow=True, limits=THREE)

    assert sorted(scene.answers) == ["0", "1", "2", "3", "4", "5"]
    assert [place.ran for place in scene.places.given] == [[2], [2], [2]]


def test_the_death_of_one_leaves_the_slot_ready_and_is_made_good() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.settle()
        for value in range(3):
            scene.ask(value)
        await scene.settle()
        scene.places.given[1].die()
        assert scene.slot.state == "ready"
        assert not scene.slot.is_bereaved
        await scene.settle()
        assert scene.slot.pids == (100, 102, 103)
        for place in scene.places.given:
            place.finish()
        await scene.settle()
        for place in scene.places.given:
            place.finish()

    scene = play(scenario, is_slow=True, limits=THREE)

    assert sorted(scene.answers) == ["0", "1", "2"]
    assert scene.slot.leases == 0


def test_when_all_die_the_requests_wait_for_the_next_worker() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.settle()
        scene.ask(1)
        await scene.settle()
        for place in list(scene.places.given):
            place.die()
        assert scene.slot.pids == ()
        for _ in range(3):
            await scene.settle()
            for place in scene.places.given[3:]:
                place.finish()

    scene = play(scenario, is_slow=True, limits=THREE)

    assert scene.answers == ["1"]
    assert scene.slot.state == "ready"


def test_closing_ends_all_workers() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.settle()
        scene.slot.close()
        assert [place.is_dead for place in scene.places.given] == [True, True, True]

    play(scenario, limits=THREE)
