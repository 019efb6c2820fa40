"""The load generator against small real servers: what it counts, and a stall that must not be omitted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from small_server import Behaviour, job, serving

from towline.core.errors import Unreachable
from towline.verify.load.job import Job, Pace, Window, joined
from towline.verify.load.processes import RunningLoad


def windows_of(a_job: Job, count: int = 1, *, processes: int = 1) -> list[Window]:
    with RunningLoad(a_job, processes=processes) as load:
        return list(islice(load.windows(), count))


def slow_ones(window: Window, limit_ms: float) -> int:
    return int((np.frombuffer(window.latencies_ns, np.int64) > limit_ms * 1e6).sum())


def test_every_answer_is_counted_once_and_windows_follow_one_another() -> None:
    behaviour = Behaviour()
    with serving(behaviour) as port:
        windows = windows_of(job(port, Pace(4), warmup_s=0.0), 3)

    answered = sum(len(window.latencies_ns) for window in windows)
    assert 0 < answered <= behaviour.seen
    assert [window.began_s for window in windows[1:]] == [window.ended_s for window in windows[:-1]]
    assert all(window.errors == {} and len(window.waiting_ns) == 4 for window in windows)
    assert all(0 < window.cpu_s <= window.seconds and window.busiest <= 1 for window in windows)


def test_bodies_are_sent_in_turn_and_whole() -> None:
    behaviour, bodies = Behaviour(), (b"a" * 3_000_000, b"b", b"c" * 100)
    with serving(behaviour) as port:
        windows_of(job(port, Pace(1), bodies=bodies, warmup_s=0.0))

    assert behaviour.bodies[:4] == [bodies[0], bodies[1], bodies[2], bodies[0]]


def test_an_open_loop_keeps_its_rate() -> None:
    behaviour = Behaviour()
    with serving(behaviour) as port:
        both = joined(windows_of(job(port, Pace(8, rate=200.0), window_s=0.3, warmup_s=0.0), 2))

    assert len(both.latencies_ns) + len(both.waiting_ns) == pytest.approx(200.0 * both.seconds, abs=3)


def test_a_stall_is_seen_by_all_who_were_due_in_an_open_loop() -> None:
    """Coordinated omission: of 200 requests a second, a stall of one second delays about a hundred by more than half a second."""
    with serving(Behaviour(stall_at=60)) as port:
        (window,) = windows_of(job(port, Pace(16, rate=200.0), window_s=2.0, warmup_s=0.0))

    assert 80 <= slow_ones(window, 500) <= 120
    assert np.frombuffer(window.latencies_ns, np.int64).max() >= 0.95e9


def test_the_same_stall_is_seen_once_by_each_client_of_a_closed_loop() -> None:
    with serving(Behaviour(stall_at=60)) as port:
        (window,) = windows_of(job(port, Pace(2), window_s=1.5, warmup_s=0.0))

    assert slow_ones(window, 500) == 2


def test_while_a_server_stalls_the_ages_of_those_who_wait_are_told() -> None:
    with serving(Behaviour(stall_at=20, stall_s=5.0)) as port:
        windows = windows_of(job(port, Pace(4, rate=100.0), window_s=0.5, warmup_s=0.0), 2)

    ages = np.frombuffer(windows[-1].waiting_ns, np.int64)
    assert len(ages) == pytest.approx(80, abs=8)
    assert ages.max() == pytest.approx(0.8e9, rel=0.2)


@pytest.mark.parametrize(("warmup_s", "slow"), [(0.4, 0), (0.0, 1)])
def test_what_happens_in_the_warm_up_is_forgotten(warmup_s: float, slow: int) -> None:
    with serving(Behaviour(stall_at=1, stall_s=0.25)) as port:
        (window,) = windows_of(job(port, Pace(1), warmup_s=warmup_s, window_s=0.4))

    assert slow_ones(window, 200) == slow
    assert len(window.latencies_ns) > slow


def test_windows_that_nobody_asks_for_do_not_hold_up_the_load() -> None:
    """Nobody is answered and as many wait as may: each window is larger than a pipe."""
    with serving(Behaviour(silent=True)) as port, RunningLoad(job(port, Pace(1, rate=400_000.0), warmup_s=0.8)) as load:
        windows = load.windows()
        first = next(windows)
        threading.Event().wait(1.2)
        late = list(islice(windows, 3))

    assert len(first.waiting_ns) > 150_000
    # A load that is held up has a window as long as nobody asked.
    assert max(window.seconds for window in late) < 1.1
    assert set(late[-1].errors) == {"never sent: too many waiting"}


def closed_pace() -> Pace:
    return Pace(1)


def open_pace() -> Pace:
    return Pace(4, rate=100.0)


@pytest.mark.parametrize("pace", [closed_pace, open_pace])
@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (lambda: Behaviour(statuses=[503] * 9), "HTTP 503"),
        (lambda: Behaviour(statuses=[302] * 9), "HTTP 302"),
        (lambda: Behaviour(silent=True), "timeout"),
    ],
)
def test_failures_are_counted_by_kind(behaviour: Callable[[], Behaviour], kind: str, pace: Callable[[], Pace]) -> None:
    with serving(behaviour()) as port:
        (window,) = windows_of(job(port, pace(), warmup_s=0.0, timeout_s=0.1, window_s=0.3))

    assert set(window.errors) == {kind}
    assert window.errors[kind] == 9 if kind.startswith("HTTP") else window.errors[kind] >= 1


@pytest.mark.parametrize("pace", [Pace(2), Pace(4, rate=100.0)])
@pytest.mark.parametrize("behaviour", [Behaviour(closes=True), Behaviour(chunked=True)])
def test_servers_that_close_or_send_chunks_are_measured_too(behaviour: Behaviour, pace: Pace) -> None:
    with serving(behaviour) as port:
        (window,) = windows_of(job(port, pace, warmup_s=0.0))

    assert window.errors == {}
    assert len(window.latencies_ns) > 5


@pytest.mark.parametrize("pace", [Pace(2), Pace(4, rate=100.0)])
def test_a_server_that_goes_away_is_an_error_and_no_crash(pace: Pace) -> None:
    # Each request on a connection of its own: none outlives the listener.
    with serving(Behaviour(closes=True)) as port:
        load = RunningLoad(job(port, pace))
        load.__enter__()
    try:
        # The server has gone; the windows come all the same.
        (window,) = islice(load.windows(), 1, 2)
    finally:
        load.stop()

    assert set(window.errors) == {"connection refused"}
    # Attempts come at a bounded pace, and waiting for the next costs nothing.
    assert window.errors["connection refused"] <= 100 * window.seconds + 10
    assert window.cpu_s < 0.15


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


def test_no_process_is_left_behind() -> None:
    with serving(Behaviour()) as port:
        load = RunningLoad(job(port, Pace(2)), processes=2)
        with load:
            running = list(load._processes)
            next(load.windows())

    assert [process.returncode for process in running] == [0, 0]
