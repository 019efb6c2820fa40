"""Overload, in a clock of the test's own: who cannot be served in time is told at once, and so those who can are served."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from uncounted import Uncounted

from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.monitor.metrics import ServingMetrics
from towline.serve.backlog import Backlog
from towline.serve.jobs import Batch, Job
from towline.serve.router import WantedVersion
from towline.serve.slots import Slot
from towline.serve.surroundings import SlotLimits, Surroundings

RUN_S = 0.02
TENSOR = TensorSpec("x", "float32", ("N", 2)), TensorSpec("y", "float32", ("N", 2))


def test_a_queue_that_never_was_long_promises_nothing() -> None:
    backlog = Backlog()

    for now_s in range(100):
        backlog.is_gone()
        backlog.stays(float(now_s), 0, 4)

    assert backlog.wait_s(1000) == 0


def test_the_wait_is_what_the_queue_was_seen_to_take_and_a_quarter_more() -> None:
    backlog = Backlog()
    for end in range(50):
        backlog.stays(end * 0.01, 1, 2)

    assert backlog.per_job_s == pytest.approx(0.0125)
    assert backlog.wait_s(100) == pytest.approx(102 * 0.0125)


def test_the_first_of_many_that_end_together_are_no_measure() -> None:
    backlog = Backlog()
    backlog.stays(0.0, 16, 16)
    for _ in range(15):
        backlog.stays(1.0, 1, 16)
    assert backlog.per_job_s == 0

    backlog.stays(1.0, 1, 16)
    assert backlog.per_job_s == pytest.approx(1.25 / 16)


def test_what_was_learned_fades_when_nobody_waits() -> None:
    backlog = Backlog()
    for end in range(50):
        backlog.stays(end * 0.01, 1, 1)
    for _ in range(200):
        backlog.is_gone()

    assert (backlog.per_job_s, backlog.run_s, backlog.is_known) == (0, 0, False)


class Place:
    """Runs `threads` batches at once, each in RUN_S of the test's time for any number of rows."""

    def __init__(self, clock: Callable[[], float], threads: int, *, merges: bool) -> None:
        self.pid, self.is_dead, self.threads, self.merges, self.memory_bytes, self.max_rows = 100, False, threads, merges, 0, 0
        self.pads_up_to = 0
        self.on_batch: Any = None
        self.on_part = self.on_death = lambda *heard: None
        self.ends: list[tuple[float, Batch]] = []
        self.rows = 0
        self._clock = clock

    @property
    def idle(self) -> int:
        return self.threads - len(self.ends)

    @property
    def running(self) -> list[Batch]:
        return [batch for _, batch in self.ends]

    def run(self, batch: Batch) -> None:
        self.ends.append((self._clock() + RUN_S, batch))

    def pass_time(self) -> None:
        for end in [end for end in self.ends if end[0] <= self._clock()]:
            self.ends.remove(end)
            self.rows += end[1].rows
            self.on_batch(end[1], {"y": np.zeros((end[1].rows, 2), np.float32)}, 1)

    def terminate_runs(self) -> None:
        """Runs end by themselves."""

    async def open(self, version: Any, manifest: Any, on_state: Callable[[str], None]) -> Place:
        return self

    def end(self, lane: Any) -> None:
        """There is nothing to end."""

    def batch_bytes(self) -> int:
        return 1 << 20


class Day:
    """A slot at work, and requests that come whether it is or not. Time passes by thousandths of a second."""

    def __init__(self, *, threads: int = 2, max_rows: int = 1, timeout_s: float = 60.0) -> None:
        self.now_s = 0.0
        self.sent = 0
        self.answers: list[tuple[float, float, str]] = []
        self.place = Place(lambda: self.now_s, threads, merges=max_rows > 1)
        loop = asyncio.get_running_loop()
        # Its timers too go by this day: a busy machine takes longer than a thousandth of a second to pass one.
        loop.time = lambda: self.now_s  # type: ignore[method-assign]
        around = Surroundings(
            loop,
            lambda: self.now_s,
            self.place,  # type: ignore[arg-type]
            ServingMetrics(),
            lambda pid: None,
            lambda pid: None,
            lambda: None,
            lambda kind, slot, details: None,
        )
        manifest = Manifest(
            1,
            "none",
            "model",
            {"serving_default": Signature((TENSOR[0],), (TENSOR[1],))},
            max_rows > 1,
            Origin("test", "sha256:0"),
            Facts(0, {}, {}),
            Measured("cpu", True, 0, 0, max_rows),
        )
        self.slot = Slot(
            WantedVersion("m", 1, "sha256:1", "/nowhere"), manifest, (), SlotLimits(1024, 1 << 30, timeout_s, max_rows), around
        )

    async def pass_time(self, seconds: float, *, per_s: int, patience_s: float | None) -> None:
        credit = 0.0
        for tick in range(round(seconds * 1000)):
            self.now_s += 0.001
            credit += per_s / 1000
            while credit >= 1:
                credit -= 1
                self._ask(patience_s)
            self.place.pass_time()
            if tick % 100 == 0:
                self.slot.tick()
            for _ in range(3):
                await asyncio.sleep(0)

    def _ask(self, patience_s: float | None, *, priority: int = 0) -> None:
        asked_s = self.now_s
        self.sent += 1

        def done(result: Response | TowlineError) -> None:
            self.answers.append((asked_s, self.now_s, "OK" if isinstance(result, Response) else result.code))

        deadline = None if patience_s is None else asked_s + patience_s
        self.slot.infer(Request({"x": np.zeros((1, 2), np.float32)}, 1, deadline=deadline, priority=priority), done, "test")

    def codes(self) -> Counter[str]:
        return Counter(code for _, _, code in self.answers)


def live(story: Callable[[Day], Any], **facts: Any) -> Day:
    async def run() -> Day:
        day = Day(**facts)
        await day.slot.open()
        await story(day)
        return day

    return asyncio.run(run())


@pytest.mark.parametrize(("threads", "max_rows", "per_s"), [(1, 1, 500), (2, 1, 1000), (2, 8, 8000)])
def test_at_ten_times_the_capacity_the_capacity_is_answered_in_time(threads: int, max_rows: int, per_s: int) -> None:
    async def story(day: Day) -> None:
        await day.pass_time(3, per_s=per_s, patience_s=0.5)
        await day.pass_time(1, per_s=0, patience_s=None)

    day = live(story, threads=threads, max_rows=max_rows)

    # 3.5 s at a tenth of what came; the first half second learns.
    assert day.codes()["OK"] >= 0.8 * 3.5 * per_s / 10
    assert len(day.answers) == day.sent
    assert day.slot.leases == 0
    refused = [(asked, told) for asked, told, code in day.answers if code == "QUEUE_FULL"]
    assert len(refused) > 0.7 * day.sent
    assert all(told == asked for asked, told in refused)
    # Of those let in after the first moments hardly one is let down.
    assert sum(1 for asked, _, code in day.answers if code == "DEADLINE_EXCEEDED" and asked > 1) < 0.01 * day.sent


def test_the_queue_of_a_slow_model_is_no_longer_than_eight_seconds() -> None:
    async def story(day: Day) -> None:
        await day.pass_time(15, per_s=500, patience_s=None)
        await day.pass_time(10, per_s=0, patience_s=None)

    day = live(story, threads=1)

    assert max(told - asked for asked, told, code in day.answers if asked > 12 and code == "OK") < 8
    assert len(day.answers) == day.sent


def test_who_has_time_is_let_in_where_others_are_refused() -> None:
    async def story(day: Day) -> None:
        await day.pass_time(1, per_s=500, patience_s=0.5)
        day.answers.clear()
        day._ask(0.1)
        day._ask(5.0)
        await day.pass_time(3, per_s=0, patience_s=None)

    day = live(story, threads=1)

    assert day.answers[0][2] == "QUEUE_FULL"
    assert day.answers[-1][2] == "OK"


def test_a_client_alone_is_served_however_little_time_it_gives() -> None:
    """What was learned in the rush refuses nobody who need not wait."""

    async def story(day: Day) -> None:
        await day.pass_time(1, per_s=500, patience_s=0.5)
        await day.pass_time(1, per_s=0, patience_s=None)
        day.answers.clear()
        for _ in range(20):
            day._ask(RUN_S * 1.2)
            await day.pass_time(0.05, per_s=0, patience_s=None)

    assert live(story, threads=1).codes() == {"OK": 20}


def test_among_others_a_request_that_a_run_would_make_late_is_let_go_and_the_last_is_tried() -> None:
    """Else nothing might ever run again, and what was learned never be put right."""

    async def story(day: Day) -> None:
        await day.pass_time(1, per_s=500, patience_s=0.5)
        await day.pass_time(0.6, per_s=0, patience_s=None)
        day.answers.clear()
        day.slot._batcher.backlog.run_s = 10.0
        day._ask(5.0)
        await day.pass_time(0.001, per_s=0, patience_s=None)
        for _ in range(3):
            day.slot._batcher.put(_job(day))
        await day.pass_time(0.1, per_s=0, patience_s=None)

    assert live(story, threads=1).codes() == {"OK": 2, "DEADLINE_EXCEEDED": 2}


def _job(day: Day) -> Job:
    """One that was let in when all looked better."""

    def done(result: Response | TowlineError) -> None:
        day.answers.append((0.0, day.now_s, "OK" if isinstance(result, Response) else result.code))

    return Job(Request({"x": np.zeros((1, 2), np.float32)}, 1), done, 8, day.now_s, day.now_s + 5.0, None, Uncounted())


def test_who_goes_before_the_others_does_not_wait_behind_them() -> None:
    async def story(day: Day) -> None:
        await day.pass_time(1, per_s=500, patience_s=0.5)
        day.answers.clear()
        day._ask(0.2)
        day._ask(0.2, priority=1)
        await day.pass_time(1, per_s=0, patience_s=None)

    codes = [code for _, _, code in live(story, threads=1).answers]

    assert codes[0] == "QUEUE_FULL"
    assert codes.count("QUEUE_FULL") == 1
