"""Who goes first: higher priorities, but nobody waits for ever; and whoever is least urgent gives way when the queue is full."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from slot_scene import LIMITS, Scene, play

from towline.serve.ranking import DEFAULT, HIGHEST, LEVEL_S, LOWEST, level, rank_s

PRIORITIES = st.integers(0, 1 << 32)


@given(st.lists(st.tuples(st.floats(0, 100), PRIORITIES), max_size=30))
def test_without_priorities_the_order_is_that_of_arrival_and_with_them_a_level_is_worth_its_seconds(asked: list[tuple[float, int]]) -> None:
    arrivals = sorted(admitted for admitted, _ in asked)
    assert sorted(arrivals, key=lambda admitted: rank_s(admitted, 0)) == arrivals
    # Whoever has waited longer than all levels together is worth goes before any newcomer.
    longest_s = (LOWEST - HIGHEST) * LEVEL_S
    assert all(rank_s(admitted, priority) < rank_s(admitted + longest_s + 0.001, 1) for admitted, priority in asked)


def test_0_is_the_default_1_the_highest_and_beyond_the_lowest_there_is_nothing() -> None:
    assert [level(priority) for priority in (0, 1, 5, 9, 10, 1 << 32)] == [DEFAULT, HIGHEST, 5, LOWEST, LOWEST, LOWEST]


def test_what_waits_runs_by_priority_then_in_order_of_arrival() -> None:
    async def scenario(scene: Scene) -> None:
        # One after the other: the version's requests do not share batches.
        scene.ask(0)
        await scene.settle()
        for value, priority in ((1, 0), (2, 9), (3, 1), (4, 0), (5, 1), (6, 5)):
            scene.ask(value, priority=priority)
        for _ in range(7):
            scene.places.given[0].finish()
            await scene.settle()

    assert play(scenario, is_slow=True, merges=False).answers == ["0", "3", "5", "1", "4", "6", "2"]


def test_who_has_waited_long_is_overtaken_no_more() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask(0)
        await scene.settle()
        scene.ask(1, priority=9)
        scene.now_s += (LOWEST - HIGHEST) * LEVEL_S + 0.01
        scene.ask(2, priority=1)
        for _ in range(3):
            scene.places.given[0].finish()
            await scene.settle()

    assert play(scenario, is_slow=True, merges=False).answers == ["0", "1", "2"]


def test_a_full_queue_lets_the_least_urgent_go_for_one_more_urgent_and_for_nobody_else() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask(0)
        await scene.settle()
        scene.ask(1, priority=9)
        scene.ask(2)
        scene.ask(3, priority=9)
        assert scene.answers == ["QUEUE_FULL"]
        scene.ask(4, priority=1)
        assert scene.answers == ["QUEUE_FULL", "QUEUE_FULL"]
        scene.ask(5)
        for _ in range(3):
            scene.places.given[0].finish()
            await scene.settle()

    scene = play(scenario, is_slow=True, merges=False, limits=replace(LIMITS, max_waiting_requests=2))

    # 3 found no room, 1 gave way for 4, 5 found no room: it is no more urgent than 2.
    assert scene.answers == ["QUEUE_FULL", "QUEUE_FULL", "QUEUE_FULL", "0", "4", "2"]
    assert scene.slot.leases == 0
