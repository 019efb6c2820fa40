"""Natural batching: what waits is the next batch, in order, of one group, within bounds, and nothing nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from uncounted import Uncounted

from towline.core.errors import TowlineError, Unavailable
from towline.core.inference import Request, Response
from towline.serve.batcher import Batcher
from towline.serve.jobs import Batch, Job


class Loop:
    """The part of an event loop a batcher uses: callbacks run when the test says so."""

    def __init__(self) -> None:
        self._soon: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._soon.append((callback, arguments))

    def turn(self) -> None:
        now, self._soon = self._soon, []
        for callback, arguments in now:
            callback(*arguments)


class Lane:
    """Takes batches until it is full."""

    def __init__(self, room: int = 1, *, merges: bool = True) -> None:
        self.room = self.threads = room
        self.merges = merges
        self.batches: list[Batch] = []

    @property
    def idle(self) -> int:
        return self.room - len(self.batches)

    def run(self, batch: Batch) -> None:
        self.batches.append(batch)

    def finished(self) -> list[str]:
        """Take the oldest batch away; the ids of its jobs."""
        return [job.request.id for job in self.batches.pop(0).jobs]


class Desk:
    """A batcher with a lane, a loop and a clock that the test owns. `answers` are ids and codes ("OK") in the order given."""

    def __init__(self, *, max_rows: int = 1000, max_bytes: int = 10_000, room: int = 1) -> None:
        self.now_s = 0.0
        self.loop = Loop()
        self.lane = Lane(room)
        self.answers: list[tuple[str, str]] = []
        self.batcher = Batcher(max_rows=max_rows, max_bytes=max_bytes, clock=lambda: self.now_s, loop=self.loop)  # type: ignore[arg-type]
        self.batcher.lane = self.lane

    def job(self, name: str, *, group: Any = 1, rows: int = 1, nbytes: int = 10, deadline: float = 60.0) -> Job:
        def done(result: Response | TowlineError) -> None:
            self.answers.append((name, "OK" if isinstance(result, Response) else result.code))

        request = Request({"x": np.zeros((rows, 1), np.float32)}, rows, id=name)
        return Job(request, done, nbytes, self.now_s, deadline, group, Uncounted())

    def put(self, *names: str, **facts: Any) -> list[Job]:
        jobs = [self.job(name, **facts) for name in names]
        for job in jobs:
            self.batcher.put(job)
        return jobs

    def settle(self) -> list[list[str]]:
        """Let everything run; the batches as lists of ids."""
        ran = []
        self.loop.turn()
        while self.lane.batches:
            ran.append(self.lane.finished())
            self.batcher.flush()
        return ran


def test_what_arrives_in_one_turn_of_the_loop_is_one_batch() -> None:
    desk = Desk()
    desk.put("a", "b", "c")
    assert desk.lane.batches == []

    assert desk.settle() == [["a", "b", "c"]]


def test_what_arrives_while_the_engine_is_busy_is_the_next_batch() -> None:
    desk = Desk()
    desk.put("a")
    desk.loop.turn()
    desk.put("b", "c")
    desk.loop.turn()

    assert desk.settle() == [["a"], ["b", "c"]]


def test_a_lane_that_gains_nothing_by_merging_runs_one_at_a_time() -> None:
    desk = Desk()
    desk.lane.merges = False
    desk.put("a", "b", "c")

    assert desk.settle() == [["a"], ["b"], ["c"]]


def test_idle_threads_share_what_waits() -> None:
    desk = Desk(room=2)
    desk.put("a", "b", "c", "d", "e")

    assert desk.settle() == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.parametrize(
    ("limits", "facts", "batches"),
    [
        ({"max_rows": 4}, {"rows": 2}, [["a", "b"], ["c", "d"], ["e"]]),
        ({"max_bytes": 25}, {"nbytes": 10}, [["a", "b"], ["c", "d"], ["e"]]),
        # One that alone is beyond a bound still runs, alone: refusing it is admission's to do.
        ({"max_rows": 1}, {"rows": 3}, [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ({}, {"group": None}, [["a"], ["b"], ["c"], ["d"], ["e"]]),
    ],
)
def test_a_batch_stays_within_its_bounds(limits: dict[str, int], facts: dict[str, Any], batches: list[list[str]]) -> None:
    desk = Desk(**limits)
    desk.put("a", "b", "c", "d", "e", **facts)

    assert desk.settle() == batches


def test_only_jobs_of_one_group_share_a_batch_and_their_order_is_kept() -> None:
    desk = Desk()
    for name, group in (("a", (3,)), ("b", (3,)), ("c", (4,)), ("d", (3,)), ("e", None), ("f", (3,))):
        desk.put(name, group=group)

    assert desk.settle() == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]


def test_jobs_put_back_go_first_in_their_old_order() -> None:
    desk = Desk()
    desk.batcher.lane = None
    waiting = desk.put("d", "e")
    desk.batcher.put_back([desk.job("a"), desk.job("b"), desk.job("c")])
    desk.batcher.lane = desk.lane
    desk.batcher.flush()

    assert desk.settle() == [["a", "b", "c", "d", "e"]]
    assert waiting[0].done is not None


def test_late_and_abandoned_jobs_are_not_run() -> None:
    desk = Desk()
    desk.batcher.lane = None
    desk.put("late", deadline=5.0)
    (gone,) = desk.put("gone")
    desk.put("good")
    gone.abandon()
    desk.now_s = 6.0
    desk.batcher.lane = desk.lane
    desk.batcher.flush()

    assert desk.settle() == [["good"]]
    assert desk.answers == [("late", "DEADLINE_EXCEEDED")]


def test_waiting_jobs_are_answered_at_their_deadline_and_leave_room_while_no_worker_takes_them() -> None:
    desk = Desk()
    desk.batcher.lane = None
    desk.put("late", "later", deadline=5.0)
    (gone,) = desk.put("gone")
    desk.put("good")
    gone.abandon()
    desk.now_s = 6.0
    desk.batcher.drop_late()

    assert desk.answers == [("late", "DEADLINE_EXCEEDED"), ("later", "DEADLINE_EXCEEDED")]
    assert (len(desk.batcher), desk.batcher.waiting_bytes) == (1, 10)


def test_an_answer_that_brings_the_clients_next_request_disturbs_nothing() -> None:
    desk = Desk()
    desk.batcher.lane = None
    late = desk.job("late", deadline=5.0)
    answered = late.done

    def ask_again(result: Response | TowlineError) -> None:
        assert answered is not None
        answered(result)
        desk.put("next", deadline=60.0)

    late.done = ask_again
    desk.batcher.put(late)
    desk.put("also-late", deadline=5.0)
    desk.now_s = 6.0
    desk.batcher.drop_late()
    desk.batcher.lane = desk.lane
    desk.batcher.flush()

    assert desk.settle() == [["next"]]


def test_bytes_that_wait_are_counted_on_every_way_in_and_out() -> None:
    desk = Desk(max_rows=2)
    desk.put("a", "b", "c", nbytes=7)
    assert desk.batcher.waiting_bytes == 21
    desk.settle()
    assert desk.batcher.waiting_bytes == 0

    desk.batcher.lane = None
    desk.batcher.put_back([desk.job("d", nbytes=5)])
    assert desk.batcher.waiting_bytes == 5
    desk.batcher.fail_all(Unavailable("The server is stopping."))
    assert (desk.batcher.waiting_bytes, len(desk.batcher), desk.answers[-1]) == (0, 0, ("d", "UNAVAILABLE"))


def test_nothing_is_sent_to_a_lane_that_is_busy_or_gone() -> None:
    desk = Desk(room=0)
    desk.put("a")
    desk.batcher.flush()
    desk.batcher.lane = None
    desk.batcher.flush()

    assert len(desk.batcher) == 1


def test_a_real_loop_gathers_what_arrives_in_one_turn() -> None:
    async def scenario() -> list[list[str]]:
        desk = Desk()
        batcher = Batcher(max_rows=10, max_bytes=1000, clock=lambda: 0.0, loop=asyncio.get_running_loop())
        batcher.lane = desk.lane
        for name in "abc":
            batcher.put(desk.job(name))
        await asyncio.sleep(0)
        return [[job.request.id for job in batch.jobs] for batch in desk.lane.batches]

    assert asyncio.run(scenario()) == [["a", "b", "c"]]
