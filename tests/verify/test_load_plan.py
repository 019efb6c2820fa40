"""Arrival times are fixed beforehand, a load is dealt out to processes whole, and what they tell arrives as it was."""

from __future__ import annotations

import io
from array import array
from itertools import islice

import pytest

from towline.verify.load.arrivals import times
from towline.verify.load.job import GRPC, Endpoint, Job, Pace, Window, encode_job, encode_window, joined, read_job, read_window, shares


def test_constant_arrivals_are_evenly_spread_and_do_not_drift() -> None:
    found = list(islice(times(Pace(1, rate=3000.0)), 3_000_001))

    assert found[:4] == [0, 333_333, 666_666, 1_000_000]
    assert found[3_000_000] == 1_000_000_000_000


def test_the_shares_of_several_processes_make_the_same_arrivals() -> None:
    whole = list(islice(times(Pace(4, rate=100.0)), 12))
    parts = [list(islice(times(pace, share=number, shares=3), 4)) for number, pace in enumerate(shares(Pace(4, rate=100.0), 3))]

    assert sorted(at for part in parts for at in part) == pytest.approx(whole, abs=1)


def test_random_arrivals_keep_the_rate_and_their_seed() -> None:
    pace = Pace(1, rate=1000.0, arrivals="poisson", seed=7)
    found = list(islice(times(pace), 20_000))
    gaps = [after - before for before, after in zip([0, *found], found, strict=False)]

    assert found == list(islice(times(pace), 20_000))
    assert found != list(islice(times(Pace(1, 1000.0, "poisson", 8)), 20_000))
    assert sum(gaps) / len(gaps) == pytest.approx(1e6, rel=0.05)
    # Of exponential gaps a share of 1/e is longer than the mean.
    assert sum(gap > 1e6 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


@pytest.mark.parametrize(("clients", "processes", "dealt"), [(8, 3, [3, 3, 2]), (2, 4, [1, 1]), (1, 1, [1]), (5, 0, [5])])
def test_clients_are_dealt_out_to_processes_and_none_has_none(clients: int, processes: int, dealt: list[int]) -> None:
    found = shares(Pace(clients, rate=90.0, seed=3), processes)

    assert [pace.clients for pace in found] == dealt
    assert sum(pace.rate for pace in found) == pytest.approx(90.0)
    assert len({pace.seed for pace in found}) == len(found)


def test_a_job_arrives_as_it_was() -> None:
    endpoint = Endpoint(GRPC, "::1", 8001, method="/a/b", metadata=(("authorization", "Bearer x"),))
    job = Job(endpoint, Pace(3, 2.5, "poisson", 9), (b"\n\x00raw", b"", b"second"), 1.5, 0.25, 2.0)

    assert read_job(io.BytesIO(encode_job(job))) == job
    assert endpoint.authority == "[::1]:8001"


def window(began_s: float = 1.0, ended_s: float = 2.0, latencies: list[int] | None = None, **more: object) -> Window:
    return Window(began_s, ended_s, array("q", latencies or []), array("q"), **more)  # type: ignore[arg-type]


def test_a_window_arrives_as_it_was() -> None:
    sent = Window(1.0, 2.5, array("q", [5, 1 << 40]), array("q", [7]), {"timeout": 2}, 0.5, 0.25, 0.75)
    raw = io.BytesIO(encode_window(sent))

    import json

    assert read_window(json.loads(raw.readline()), raw.read) == sent


def test_windows_of_several_processes_are_one() -> None:
    both = joined(
        [
            window(1.0, 2.0, [1, 2], errors={"timeout": 1}, cpu_s=0.5, busiest=0.6),
            window(1.1, 2.1, [3], errors={"timeout": 2, "HTTP 500": 1}, cpu_s=0.25, busiest=0.9),
        ]
    )

    assert (both.began_s, both.ended_s, list(both.latencies_ns)) == (1.0, 2.1, [1, 2, 3])
    assert (both.errors, both.cpu_s, both.busiest) == ({"timeout": 3, "HTTP 500": 1}, 0.75, 0.9)
