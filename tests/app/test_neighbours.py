"""What others use of the machine is told apart from what we use."""

from __future__ import annotations

import pytest

from towline.app.tuning.neighbours import Look, busy_s, look, others_cores

STAT = """cpu  999 0 0 0 0 0 0 0 0 0
cpu0 100 10 50 9000 300 1 2 3 40 5
cpu1 200 0 0 9000 0 0 0 0 0 0
cpu12 700 0 0 0 0 0 0 0 0 0
intr 5 4 3
ctxt 7
"""


def test_cores_are_busy_when_they_neither_idle_nor_wait_for_a_disk() -> None:
    ticks_per_s = busy_s("cpu0 1 0 0 0 0 0 0 0 0 0", {0}) ** -1

    assert busy_s(STAT, {0}) * ticks_per_s == pytest.approx(100 + 10 + 50 + 1 + 2 + 3)
    assert busy_s(STAT, {0, 1}) * ticks_per_s == pytest.approx(366)
    assert busy_s(STAT, {5}) == 0


def test_others_are_what_is_busy_and_not_ours() -> None:
    assert others_cores(Look(10.0, 100.0, 50.0), Look(20.0, 118.0, 56.0)) == pytest.approx(1.2)
    # Ticks are coarse: what we used may be told before it is counted.
    assert others_cores(Look(10.0, 100.0, 50.0), Look(11.0, 100.5, 50.6)) == 0
    assert others_cores(None, Look(1.0, 1.0, 1.0)) == 0


def test_our_own_work_is_no_neighbours() -> None:
    before, after = look(lambda: 0.0), look(lambda: 1.5)

    assert before is not None
    assert after is not None
    assert after.own_s - before.own_s >= 1.5
