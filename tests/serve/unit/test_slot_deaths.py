"""A slot and the moment its worker dies: whenever that is, another is opened and no request is forgotten."""

from __future__ import annotations

import numpy as np
from slot_scene import Place, Scene, play
from uncounted import Uncounted

from towline.core.errors import Kind, TowlineError
from towline.core.inference import Request
from towline.serve.admission import bytes_with_strings
from towline.serve.jobs import Batch, Job
from towline.serve.workers.hub import Exit


def test_a_worker_that_dies_before_anybody_listens_is_replaced() -> None:
    """Between its last answer of the load and the slot's next turn."""

    def first_dies(place: Place) -> None:
        place.is_dead = place.pid == 100

    async def scenario(scene: Scene) -> None:
        scene.ask(7)

    scene = play(scenario, on_open=first_dies)

    assert scene.answers == ["7"]
    assert [place.pid for place in scene.places.given] == [100, 101]
    assert scene.slot.state == "ready"


def test_what_ran_and_what_waited_is_answered_by_the_next_worker_in_its_old_order() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask(1)
        await scene.settle()
        scene.ask(2)
        scene.ask(3)
        scene.places.given[0].die()
        await scene.settle()
        scene.places.given[1].finish()
        await scene.settle()
        scene.places.given[1].finish()

    scene = play(scenario, is_slow=True)

    assert scene.answers == ["1", "2", "3"]
    assert scene.slot.leases == 0


def test_a_worker_that_hangs_up_is_killed_whatever_it_does_next() -> None:
    async def scenario(scene: Scene) -> None:
        scene.places.given[0].die()

    assert play(scenario).killed == [100]


def test_a_request_that_dies_with_four_workers_in_a_row_is_given_up() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask(1)
        for turn in range(4):
            await scene.settle()
            scene.places.given[turn].die()

    scene = play(scenario, is_slow=True)

    assert scene.answers == ["WORKER_DIED"]
    assert len(scene.places.given) == 5


def test_suspects_are_tried_alone_also_when_the_place_of_the_trial_dies_before_it_is_used() -> None:
    def third_dies(place: Place) -> None:
        place.is_dead = place.pid == 102

    async def scenario(scene: Scene) -> None:
        scene.exit = Exit(11)
        for value in (1, 2, 3):
            scene.ask(value)
        await scene.settle()
        assert scene.places.given[0].ran == [3]
        scene.places.given[0].die()
        # One for the slot, one for the trial that dies, one more for the trial.
        await scene.settle()
        for value in range(3):
            scene.places.given[3].finish({"y": np.full((1, 2), 10 + value, np.float32)})
            await scene.settle()

    scene = play(scenario, is_slow=True, on_open=third_dies)

    assert scene.answers == ["10", "11", "12"]
    assert scene.places.given[3].ran == [1, 1, 1]


def test_a_refused_batch_runs_again_one_by_one_in_the_same_worker() -> None:
    async def scenario(scene: Scene) -> None:
        for value in (1, 2):
            scene.ask(value)
        await scene.settle()
        (place,) = scene.places.given
        place.finish(TowlineError("no", code="ENGINE_REFUSED", kind=Kind.INVALID))
        await scene.settle()
        place.finish(TowlineError("no", code="ENGINE_REFUSED", kind=Kind.INVALID))
        await scene.settle()
        place.finish()

    scene = play(scenario, is_slow=True)

    assert scene.answers == ["ENGINE_REFUSED", "2"]
    assert scene.places.given[0].ran == [2, 1, 1]


def test_one_that_was_stopped_in_place_of_another_runs_again_and_one_that_is_late_does_not() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask(1)
        await scene.settle()
        scene.places.given[0].finish(TowlineError("stopped", code="TERMINATED", kind=Kind.DEADLINE))
        await scene.settle()
        scene.places.given[0].finish()
        await scene.settle()
        scene.ask(2)
        await scene.settle()
        scene.now_s = 61
        scene.places.given[0].finish(TowlineError("stopped", code="TERMINATED", kind=Kind.DEADLINE))

    assert play(scenario, is_slow=True).answers == ["1", "DEADLINE_EXCEEDED"]


def test_an_overrun_run_is_ended_although_others_of_its_worker_go_on_ending() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask(1)
        await scene.settle()
        (place,) = scene.places.given
        stuck = place.running[0]
        for scene.now_s in (61.0, 61.6):
            scene.slot.tick()
            assert scene.killed == []
            # Another batch of the same worker ends meanwhile.
            scene.slot._delivery.deliver(Batch([Job(Request({}), None, 0, 0.0, 99.0, 1, Uncounted())], 1, 0.0), {}, 1)
        assert place.running == [stuck]
        scene.now_s = 62.2
        scene.slot.tick()

    scene = play(scenario, is_slow=True)

    assert scene.answers == ["DEADLINE_EXCEEDED"]
    assert scene.killed == [100]


def test_a_client_that_leaves_has_its_run_stopped_and_costs_nobody_the_worker() -> None:
    async def scenario(scene: Scene) -> None:
        leave = scene.ask(1)
        await scene.settle()
        leave()
        for scene.now_s in (1.0, 5.0, 59.0):
            scene.slot.tick()

    scene = play(scenario, is_slow=True)

    assert scene.places.given[0].terminated >= 1
    assert scene.killed == []


def test_a_slot_that_leaves_answers_its_last_requests_also_through_a_death_and_then_closes() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask(1)
        await scene.settle()
        scene.slot.drain(0)
        scene.places.given[0].die()
        await scene.settle()
        assert scene.slot.state == "draining"
        scene.places.given[1].finish()

    scene = play(scenario, is_slow=True)

    assert scene.answers == ["1"]
    assert scene.slot.state == "closed"
    assert scene.places.given[1].is_dead


def test_a_slot_that_is_wanted_again_stays_and_one_without_a_worker_does_not() -> None:
    async def scenario(scene: Scene) -> None:
        scene.slot.drain(0)
        assert scene.slot.revive()
        await scene.settle()
        assert scene.slot.state == "ready"
        scene.slot.drain(0)
        scene.places.given[0].is_dead = True
        assert not scene.slot.revive()

    assert play(scenario).slot.state == "closed"


def test_strings_are_counted_by_their_bytes_and_not_by_their_pointers() -> None:
    texts = np.array([b"x" * 1000, b"y"], dtype=object)

    assert bytes_with_strings(Request({"s": texts, "n": np.zeros(3, np.int64)})) == 1001 + 2 * 4 + 24


def test_requests_beyond_the_queue_are_refused_and_those_in_it_are_not() -> None:
    async def scenario(scene: Scene) -> None:
        for _ in range(1 + 100 + 5):
            scene.ask(1)
            if not scene.places.given[0].running:
                await scene.settle()
        assert scene.answers == ["QUEUE_FULL"] * 5
        scene.places.given[0].finish()
        await scene.settle()
        while scene.places.given[0].running:
            scene.places.given[0].finish()
            await scene.settle()

    scene = play(scenario, is_slow=True)

    assert (scene.answers.count("1"), scene.answers.count("QUEUE_FULL")) == (101, 5)
