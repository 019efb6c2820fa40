"""What the load generators print becomes figures, and a refusal never counts as an answer."""

from __future__ import annotations

import pytest

WRK = """Running 2s test @ http://127.0.0.1:1/
  1 threads and 8 connections

{"requests": 1000, "failed": 100, "duration_us": 2000000, "p50_us": 250, "p99_us": 900}
"""
H2LOAD = """finished in 2.00s, 500.00 req/s, 60.00KB/s
requests: 1000 total, 1008 started, 1000 done, 1000 succeeded, 0 failed, {errored} errored, {timeout} timeout
status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 120.00KB (122880) total, 20.00KB (20480) headers (space savings 90.00%), {data}KB ({data}) data
"""


def h2load_printed(*, data: int, errored: int = 0, timeout: int = 0) -> str:
    return H2LOAD.format(data=data, errored=errored, timeout=timeout)


def log(*took_us: int) -> list[str]:
    return [f"1700000000000000\t200\t{one}" for one in took_us]


def test_processor_time_is_shared_among_the_requests_that_were_answered(bench):
    seen = bench("wrk").sample(WRK, used_us=90_000)

    assert (seen.cpu_us, seen.requests_per_s, seen.p50_us, seen.p99_us, seen.failed) == (100, 450, 250, 900, 100)


def test_a_server_that_answers_nothing_costs_what_it_used_and_has_no_rate(bench):
    nothing = '{"requests": 5, "failed": 5, "duration_us": 1000000, "p50_us": 0, "p99_us": 0}'

    assert bench("wrk").sample(nothing, used_us=7.0) == bench("wrk").Sample(7.0, 0.0, 0, 0, 5)


def test_calls_over_grpc_are_counted_by_h2load(bench):
    seen = bench("h2load").sample(h2load_printed(data=60 * 1000), log(*range(1, 101)), 50_000, answer_bytes=60)

    assert (seen.cpu_us, seen.requests_per_s, seen.p50_us, seen.p99_us, seen.failed) == (50, 500, 51, 100, 0)


def test_a_refusal_over_grpc_is_told_by_the_bytes_that_did_not_come(bench):
    seen = bench("h2load").sample(h2load_printed(data=60 * 900), log(5), 90_000, answer_bytes=60)

    assert (seen.cpu_us, seen.requests_per_s, seen.failed) == (100, 450, 100)


def test_what_broke_or_was_late_over_grpc_has_failed(bench):
    assert bench("h2load").sample(h2load_printed(data=60_000, errored=2, timeout=3), [], 1.0, answer_bytes=60).failed == 5


def test_an_h2load_that_speaks_otherwise_is_refused_with_what_it_said(bench):
    with pytest.raises(SystemExit, match="unable to connect"):
        bench("h2load").sample("unable to connect", [], 1.0, answer_bytes=60)


def test_the_least_processor_time_counts_and_the_middle_of_everything_else(bench):
    sample = bench("wrk").Sample
    found = bench("figures").figures([sample(20, 100, 1, 9, 0), sample(30, 300, 3, 7, 2), sample(25, 200, 2, 8, 0)], [10, 10, 5])

    assert (found.cpu_us, found.requests_per_s, found.p50_us, found.p99_us, found.failed) == (20, 200, 2, 8, 2)
    assert (found.ratio, found.ratio_low, found.ratio_high) == (3, 2, 5)


def test_a_round_without_its_floor_has_no_ratio(bench):
    sample = bench("wrk").Sample(20, 100, 1, 9, 0)

    assert bench("figures").figures([sample, sample], [None, 10]).ratio == 2
    assert bench("figures").figures([sample], [None]).ratio is None
