"""What is counted per batch adds up to what Triton's clients are told per request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from towline.core.inference import Request
from towline.monitor.counters import RequestMetrics
from towline.serve.contract import Count
from towline.serve.jobs import Batch, Job
from towline.serve.statistics import MAX_SIZES, BatchCounts, statistics_of


def batch(*admitted_s: float, sent_s: float = 10.0, rows: int = 0) -> Batch:
    jobs = [Job(Request({}), None, 0, moment, 99.0, None, lambda job, result: None) for moment in admitted_s]
    return Batch(jobs, rows or len(jobs), sent_s)


@dataclass
class Loaded:
    counts: BatchCounts = field(default_factory=BatchCounts)
    meters: list[Any] = field(default_factory=list)
    name: str = "mlp"
    number: int = 3
    memory_bytes: int = 5


def test_each_request_counts_its_own_wait_and_the_whole_run_of_its_batch() -> None:
    slot = Loaded()
    slot.counts.add(batch(9.5, 9.75, rows=6), 400)
    slot.counts.add(batch(9.0), 100)
    told = statistics_of(slot, now_s=12.0, wall_s=1000.0)

    assert (told.rows, told.executions) == (7, 2)
    assert told.queue == Count(3, 1_750_000_000)
    assert told.compute == Count(3, (2 * 400 + 100) * 1000)
    assert told.sizes == {1: Count(1, 100_000), 6: Count(1, 400_000)}
    assert told.last_ms == 998_000


def test_answers_and_failures_are_told_apart_over_all_protocols() -> None:
    rest, grpc = RequestMetrics(""), RequestMetrics("")
    rest.observe("OK", 0.5)
    rest.observe("QUEUE_FULL", 0.25)
    grpc.observe("OK", 1.0)
    grpc.observe_all("DEADLINE_EXCEEDED", [1.25, 0.75])
    told = statistics_of(Loaded(meters=[rest, grpc]), now_s=1.0, wall_s=1.0)

    assert (told.success, told.fail) == (Count(2, 1_500_000_000), Count(3, 2_250_000_000))


def test_the_parts_of_an_answer_add_up_to_the_whole() -> None:
    slot = Loaded(meters=[meter := RequestMetrics("")])
    slot.counts.add(batch(9.5), 200_000)
    meter.observe("OK", 1.0)
    told = statistics_of(slot, now_s=11.0, wall_s=11.0)

    assert told.queue.ns + told.compute.ns + told.rest.ns == told.success.ns == 1_000_000_000


def test_a_version_that_never_ran_has_no_last_inference() -> None:
    assert statistics_of(Loaded(), now_s=5.0, wall_s=5.0).last_ms == 0


@pytest.mark.parametrize("sizes", [MAX_SIZES, 5 * MAX_SIZES])
def test_sizes_of_batches_that_clients_choose_are_told_apart_up_to_a_bound(sizes: int) -> None:
    counts = BatchCounts()
    for rows in range(1, sizes + 1):
        counts.add(batch(9.0, rows=rows), 1)

    assert (len(counts.sizes()), counts.executions, counts.requests) == (MAX_SIZES, sizes, sizes)
    assert counts.rows == sum(range(1, sizes + 1))
