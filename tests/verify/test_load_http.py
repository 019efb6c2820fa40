"""The load generator against small real servers: what it counts, and a stall that must not be omitted."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from small_server import Behaviour, job, serving

from towline.core.errors import Unreachable
from towline.verify.load import processes
from towline.verify.load.job import Job, Pace, Window
from towline.verify.load.meter import Meter
from towline.verify.load.processes import RunningLoad


def windows_of(a_job: Job, count: int = 1, *, processes: int = 1) -> list[Window]:
    with RunningLoad(a_job, processes=processes) as load:
        return list(islice(load.windows(), count))


def windows_until(a_job: Job, holds: Callable[[list[Window]], bool]) -> list[Window]:
    """Windows until that holds of them, which a busy machine may take many for. It must hold within a minute."""
    found: list[Window] = []
    until_s = time.monotonic() + 60
    with RunningLoad(a_job) as load:
        for window in load.windows():
            found.append(window)
            if holds(found):
                return found
            assert time.monotonic() < until_s, "it never held"
    raise AssertionError("the windows ended")


def latencies_s(windows: list[Window]) -> np.ndarray:
    return np.concatenate([np.frombuffer(window.latencies_ns, np.int64) for window in windows]) / 1e9


def ages_s(window: Window) -> np.ndarray:
    return np.frombuffer(window.waiting_ns, np.int64) / 1e9


def keeps_pace(windows: list[Window], rate: float) -> bool:
    """Whether what came due between the ends of two windows was answered or waits.

    Of a window that a busy machine cut late some is still to be taken up: of those before the last, one must have been as late as that.
    """
    answered = np.cumsum([len(window.latencies_ns) for window in windows])
    taken = [int(count) + len(window.waiting_ns) for count, window in zip(answered, windows, strict=True)]
    return any(
        taken[-1] - before == pytest.approx(rate * (windows[-1].ended_s - window.ended_s), abs=3)
        for before, window in zip(taken[:-2], windows, strict=False)
    )


def test_every_answer_is_counted_once_and_windows_follow_one_another() -> None:
    behaviour = Behaviour()
    with serving(behaviour) as port:
        windows = windows_until(job(port, Pace(4), warmup_s=0.0), lambda seen: len(seen) >= 3 and len(latencies_s(seen)) > 0)

    assert len(latencies_s(windows)) <= behaviour.seen
    assert [window.began_s for window in windows[1:]] == [window.ended_s for window in windows[:-1]]
    assert all(window.errors == {} and len(window.waiting_ns) == 4 for window in windows)
    assert all(0 < window.cpu_s <= window.seconds + 0.01 and window.busiest <= 1 for window in windows)


def test_bodies_are_sent_in_turn_and_whole() -> None:
    behaviour, bodies = Behaviour(), (b"a" * 3_000_000, b"b", b"c" * 100)
    with serving(behaviour) as port:
        windows_until(job(port, Pace(1), bodies=bodies, warmup_s=0.0), lambda _: len(behaviour.bodies) >= 4)

    assert behaviour.bodies[:4] == [bodies[0], bodies[1], bodies[2], bodies[0]]


def test_an_open_loop_keeps_its_rate() -> None:
    with serving(Behaviour()) as port:
        windows = windows_until(job(port, Pace(8, rate=200.0), window_s=0.3, warmup_s=0.0), lambda seen: keeps_pace(seen, 200.0))

    assert all(window.errors == {} for window in windows)


def test_a_stall_is_seen_by_all_who_were_due_in_an_open_loop() -> None:
    """Coordinated omission: of 200 requests a second, a stall of one second delays about a hundred by more than half a second."""
    with serving(Behaviour(stall_at=60)) as port:
        windows = windows_until(
            job(port, Pace(16, rate=200.0), window_s=0.5, warmup_s=0.0), lambda seen: int((latencies_s(seen) > 0.5).sum()) >= 80
        )

    assert latencies_s(windows).max() >= 0.95


def test_the_same_stall_is_seen_once_by_each_client_of_a_closed_loop() -> None:
    with serving(Behaviour(stall_at=20)) as port:
        windows = windows_until(job(port, Pace(2), window_s=0.5, warmup_s=0.0), lambda seen: bool((latencies_s(seen) > 0.95).any()))

    # Two, and perhaps some more that a busy machine held up; not a hundred.
    assert (latencies_s(windows) > 0.5).sum() < 20


def test_while_a_server_stalls_the_ages_of_those_who_wait_are_told() -> None:
    with serving(Behaviour(stall_at=20, stall_s=300.0)) as port:
        windows = windows_until(
            job(port, Pace(4, rate=100.0), window_s=0.5, warmup_s=0.0, timeout_s=300.0),
            # As many as came due in the time that the oldest of them has waited, unless a busy machine cut the window late.
            lambda seen: len(ages := ages_s(seen[-1])) > 45 and len(ages) == pytest.approx(100 * ages.max(), abs=8),
        )

    assert ages_s(windows[-1]).max() > 0.4


def test_what_happens_in_the_warm_up_is_forgotten() -> None:
    told: list[Window] = []
    meter = Meter(5_000, 1_000, told.append, lambda: ())
    meter.answered(7)
    meter.failed("timeout")
    meter.cut(5_000)
    meter.answered(8)
    meter.cut(6_000)

    assert [(list(window.latencies_ns), window.errors, window.began_s, window.ended_s) for window in told] == [([8], {}, 5e-6, 6e-6)]


@pytest.mark.parametrize("warmup_s", [0.4, 0.0])
def test_the_first_window_begins_behind_the_warm_up(warmup_s: float) -> None:
    began_s = time.monotonic()
    with serving(Behaviour(stall_at=1, stall_s=0.25)) as port:
        windows = windows_until(job(port, Pace(1), warmup_s=warmup_s, window_s=0.4), lambda seen: len(latencies_s(seen)) > 0)

    assert windows[0].began_s >= began_s + warmup_s
    # Without one, what the first request waited for counts.
    assert warmup_s or latencies_s(windows)[0] >= 0.25


def test_windows_that_nobody_asks_for_do_not_hold_up_the_load() -> None:
    """Nobody is answered and as many wait as may: each window is larger than a pipe."""
    with serving(Behaviour(silent=True)) as port, RunningLoad(job(port, Pace(1, rate=400_000.0), warmup_s=0.8, timeout_s=300.0)) as load:
        windows = load.windows()
        assert any(len(window.waiting_ns) > 150_000 for window in islice(windows, 100))
        for pause_s in (1.0, 4.0, 16.0):
            threading.Event().wait(pause_s)
            asked_s = time.monotonic()
            late = list(islice(windows, 3))
            # A load that is held up has a window that lasts until somebody asks, behind the one that it could not hand over.
            if late[1].ended_s < asked_s:
                break

    assert late[1].ended_s < asked_s
    assert set(late[-1].errors) == {"never sent: too many waiting"}


def closed_pace() -> Pace:
    return Pace(1)


def open_pace() -> Pace:
    return Pace(4, rate=100.0)


@pytest.mark.parametrize("pace", [closed_pace, open_pace])
@pytest.mark.parametrize("status", [503, 302])
def test_refusals_are_counted_by_kind(status: int, pace: Callable[[], Pace]) -> None:
    with serving(Behaviour(statuses=[status] * 9)) as port:
        windows = windows_until(job(port, pace(), warmup_s=0.0), lambda seen: len(latencies_s(seen)) > 9)

    assert {kind for window in windows for kind in window.errors} == {f"HTTP {status}"}
    assert sum(window.errors.get(f"HTTP {status}", 0) for window in windows) == 9


@pytest.mark.parametrize("pace", [closed_pace, open_pace])
def test_who_gets_no_answer_in_time_is_counted_as_that(pace: Callable[[], Pace]) -> None:
    with serving(Behaviour(silent=True)) as port:
        windows = windows_until(job(port, pace(), warmup_s=0.0, timeout_s=0.1), lambda seen: seen[-1].errors != {})

    assert set(windows[-1].errors) == {"timeout"}


@pytest.mark.parametrize("pace", [Pace(2), Pace(4, rate=100.0)])
@pytest.mark.parametrize("behaviour", [Behaviour(closes=True), Behaviour(chunked=True)])
def test_servers_that_close_or_send_chunks_are_measured_too(behaviour: Behaviour, pace: Pace) -> None:
    with serving(behaviour) as port:
        windows = windows_until(job(port, pace, warmup_s=0.0), lambda seen: len(latencies_s(seen)) > 5)

    assert all(window.errors == {} for window in windows)


@pytest.mark.parametrize("pace", [Pace(2), Pace(4, rate=100.0)])
def test_a_server_that_goes_away_is_an_error_and_no_crash(pace: Pace) -> None:
    # Each request on a connection of its own: none outlives the listener.
    with serving(Behaviour(closes=True)) as port:
        load = RunningLoad(job(port, pace))
        load.__enter__()
    try:
        # The server has gone; the windows come all the same, and after what was under way there is nothing else in them.
        window = next(one for one in islice(load.windows(), 300) if set(one.errors) == {"connection refused"} and not one.latencies_ns)
    finally:
        load.stop()

    # Attempts come at a bounded pace, and waiting for the next costs nothing: whoever did not wait would make thousands.
    assert window.errors["connection refused"] <= 100 * window.seconds + 10
    assert window.cpu_s < 0.75 * window.seconds


def test_several_processes_make_one_load() -> None:
    behaviour = Behaviour()
    with serving(behaviour) as port:
        (window,) = windows_of(job(port, Pace(3), warmup_s=0.0), processes=2)

    assert len(window.waiting_ns) == 3
    assert window.errors == {}


def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(Unreachable, match="connection refused"):
            windows_of(job(port, Pace(2)))


def test_no_process_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    # However long this machine takes to end one.
    monkeypatch.setattr(processes, "STOP_TIMEOUT_S", 60.0)
    with serving(Behaviour()) as port:
        load = RunningLoad(job(port, Pace(2)), processes=2)
        with load:
            running = list(load._processes)
            next(load.windows())

    assert [process.returncode for process in running] == [0, 0]
