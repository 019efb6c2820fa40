"""What becomes of the requests of a worker that died, and when processes are tried again."""

from __future__ import annotations

import signal

import pytest

from towline.serve import recovery
from towline.serve.recovery import Fate
from towline.serve.supervisor import restarts

CRASHES = (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)
NOT_THE_INPUT = (0, signal.SIGKILL, signal.SIGTERM)


def fate(number: int = signal.SIGKILL, *, alone: bool = True, tries: int = 1, may_repeat: bool = True, oom: bool = False) -> Fate:
    return recovery.fate(signal_number=number, was_alone=alone, tries=tries, may_repeat=may_repeat, out_of_memory=oom)


@pytest.mark.parametrize("number", CRASHES)
def test_who_dies_alone_of_a_crash_is_guilty_and_of_several_each_is_tried_alone(number: int) -> None:
    assert fate(number, alone=True) is Fate.QUARANTINE
    assert fate(number, alone=False) is Fate.SUSPECT
    # Also when it was retried often before: a kill from outside is no excuse for a crash.
    assert fate(number, alone=True, tries=9) is Fate.QUARANTINE


@pytest.mark.parametrize("number", NOT_THE_INPUT)
@pytest.mark.parametrize("alone", [True, False])
def test_a_death_from_outside_is_not_the_inputs_fault_three_times(number: int, alone: bool) -> None:
    fates = [fate(number, alone=alone, tries=tries) for tries in (1, 2, 3, 4, 5)]

    assert fates == [Fate.RETRY, Fate.RETRY, Fate.RETRY, Fate.GIVE_UP, Fate.GIVE_UP]


def test_one_that_runs_out_of_memory_each_time_is_told_so() -> None:
    assert fate(tries=3, oom=True) is Fate.RETRY
    assert fate(tries=4, oom=True) is Fate.OUT_OF_MEMORY


@pytest.mark.parametrize("number", [*CRASHES, *NOT_THE_INPUT])
def test_what_may_not_be_repeated_is_never_run_again(number: int) -> None:
    assert fate(number, may_repeat=False) is Fate.GIVE_UP


def test_pauses_between_loads_grow_to_a_minute_and_stay_there() -> None:
    assert [recovery.back_off_s(failures) for failures in (0, 1, 2, 3, 7, 8, 1000)] == [0, 1, 2, 4, 60, 60, 60]


@pytest.mark.parametrize(("needed", "available", "fits"), [(1, None, True), (1, 1, True), (2, 1, False), (0, 0, True)])
def test_a_load_is_tried_when_it_fits_or_nobody_knows(needed: int, available: int | None, fits: bool) -> None:
    assert recovery.fits(needed_bytes=needed, available_bytes=available) is fits


@pytest.mark.parametrize(
    ("now_s", "deadline_s", "since_s", "ends"),
    [
        (10.0, 5.0, 5.0, True),
        (10.0, 9.5, 9.5, False),
        # The client left early: the run goes on until its deadline, and a moment longer.
        (10.0, 60.0, 1.0, False),
        (61.5, 60.0, 1.0, True),
        # Seen late: it is first asked to stop, and gets its moment.
        (10.0, 1.0, 9.8, False),
    ],
)
def test_a_worker_is_ended_for_a_run_only_past_its_deadline_and_after_a_moments_grace(
    now_s: float, deadline_s: float, since_s: float, ends: bool
) -> None:
    assert recovery.has_overrun(now_s=now_s, deadline_s=deadline_s, unwanted_since_s=since_s) is ends


def test_a_process_that_cannot_even_start_ends_the_server_but_never_one_that_answers() -> None:
    assert restarts.gives_up("front", quick_deaths=6, was_ready=False)
    assert not restarts.gives_up("front", quick_deaths=5, was_ready=False)
    assert not restarts.gives_up("front", quick_deaths=1000, was_ready=True)
    assert not restarts.gives_up("fork-server", quick_deaths=1000, was_ready=True)
    assert not restarts.gives_up("controller", quick_deaths=1000, was_ready=False)


def test_a_process_that_dies_young_is_started_again_soon_and_then_less_often() -> None:
    pauses = [restarts.back_off_s(deaths) for deaths in range(10)]

    assert pauses == sorted(pauses)
    assert pauses[0] <= 0.1
    assert pauses[-1] <= 2.0


def test_only_a_quick_death_by_its_own_fault_counts_and_a_longer_life_is_a_new_start() -> None:
    assert restarts.quick_deaths_now(2, lived_s=0.1, code=1) == 3
    assert restarts.quick_deaths_now(2, lived_s=0.1, code=-signal.SIGSEGV) == 3
    assert restarts.quick_deaths_now(2, lived_s=0.1, code=-signal.SIGKILL) == 0
    assert restarts.quick_deaths_now(2, lived_s=60.0, code=1) == 0


@pytest.mark.parametrize(
    ("number", "otherwise", "code"), [(signal.SIGINT, 0, 130), (signal.SIGTERM, 0, 0), (signal.SIGTERM, 1, 1), (0, 1, 1)]
)
def test_a_server_that_ctrl_c_ended_says_so_by_its_exit_code(number: int, otherwise: int, code: int) -> None:
    assert restarts.exit_code(number, otherwise=otherwise) == code
