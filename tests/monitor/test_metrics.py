"""What /metrics shows, read back by Prometheus' own parser."""

from __future__ import annotations

import math
import os
import re
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from towline.monitor.counters import MAX_CODES, OTHER
from towline.monitor.metrics import UNKNOWN, ServingMetrics
from towline.monitor.process import sample_process


def read(metrics: ServingMetrics, *processes) -> dict:
    """{(sample name, labels as a frozenset of pairs): value}, as a Prometheus server understands it."""
    families = text_string_to_metric_families(metrics.render(processes).decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def labels(**pairs: str) -> frozenset:
    return frozenset(pairs.items())


DIGITS = {"model": "digits", "version": "3", "track": "stable", "protocol": "tfserving"}


def test_every_request_is_counted_by_its_code():
    metrics = ServingMetrics()
    requests = metrics.of("digits", 3, "stable", "tfserving")
    for code in ("200", "200", "400"):
        requests.observe(code, 0.002)

    seen = read(metrics)

    assert seen["towline_requests_total", labels(**DIGITS, code="200")] == 2
    assert seen["towline_requests_total", labels(**DIGITS, code="400")] == 1
    assert seen["towline_request_duration_seconds_count", labels(**DIGITS)] == 3
    assert seen["towline_request_duration_seconds_sum", labels(**DIGITS)] == pytest.approx(0.006)


@pytest.mark.parametrize(
    ("duration_s", "first_bucket"),
    [(0.0, "0.0001"), (0.0001, "0.0001"), (0.00011, "0.00025"), (1.0, "1.0"), (60.0, "60.0"), (60.1, "+Inf"), (math.inf, "+Inf")],
)
def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed(duration_s, first_bucket):
    metrics = ServingMetrics()
    metrics.of("digits", 3, "stable", "tfserving").observe("200", duration_s)

    buckets = {
        dict(pairs)["le"]: value for (name, pairs), value in read(metrics).items() if name == "towline_request_duration_seconds_bucket"
    }

    holding = sorted((bound for bound, value in buckets.items() if value == 1), key=float)
    assert holding[0] == first_bucket
    assert holding[-1] == "+Inf"
    assert holding == sorted(buckets, key=float)[-len(holding) :], "buckets are cumulative"


def test_a_batch_shows_its_rows_its_wait_and_its_time_in_the_engine():
    metrics = ServingMetrics()
    batches = metrics.batches("digits", 3, "stable")
    batches.observe(3, 0.0004, 0.002)
    batches.observe(64, 0.5, 0.004)
    batch_labels = labels(model="digits", version="3", track="stable")

    seen = read(metrics)

    assert seen["towline_batch_size_sum", batch_labels] == 67
    assert seen["towline_batch_size_bucket", batch_labels | labels(le="4.0")] == 1
    assert seen["towline_queue_duration_seconds_sum", batch_labels] == pytest.approx(0.5004)
    assert seen["towline_compute_duration_seconds_count", batch_labels] == 2


def test_the_types_and_names_are_those_the_dashboards_ask_for():
    metrics = ServingMetrics()
    metrics.of("digits", 3, "stable", "v2").inflight += 2
    families = {family.name: family.type for family in text_string_to_metric_families(metrics.render().decode())}

    assert families == {
        "towline_requests": "counter",
        "towline_request_duration_seconds": "histogram",
        "towline_inflight_requests": "gauge",
        "towline_queue_duration_seconds": "histogram",
        "towline_compute_duration_seconds": "histogram",
        "towline_batch_size": "histogram",
        "towline_batch_padding_ratio": "histogram",
        "towline_worker_restarts": "counter",
        "towline_quarantined": "counter",
        "towline_model_ready": "gauge",
        "towline_process_resident_memory_bytes": "gauge",
        "towline_process_cpu_seconds": "counter",
        "towline_metrics_dropped": "counter",
    }
    assert read(metrics)["towline_inflight_requests", labels(model="digits", version="3", track="stable", protocol="v2")] == 2


@pytest.mark.parametrize("hostile", ['a"b', "a\\", "a\nb", 'x"} 1\ntowline_requests_total{model="y', "\\n", "漢字", ""])
def test_a_label_that_tries_to_leave_its_quotes_stays_one_label(hostile):
    metrics = ServingMetrics()
    metrics.of(hostile or None, 1, hostile, "v2").observe(hostile, 0.1)

    totals = {pairs: value for (name, pairs), value in read(metrics).items() if name == "towline_requests_total"}

    (pairs,) = totals
    assert dict(pairs)["code"] == hostile
    assert dict(pairs)["track"] == hostile


def test_a_lone_surrogate_in_a_label_does_not_stop_the_page():
    metrics = ServingMetrics()
    metrics.of("digits", 1, "\ud800", "v2").observe("200", 0.1)

    assert b'track="?"' in metrics.render()


def test_a_name_that_is_not_served_never_becomes_a_label():
    metrics = ServingMetrics()
    metrics.of(None, protocol="v2").observe("404", 0.001)

    assert read(metrics)["towline_requests_total", labels(model=UNKNOWN, version="", track="", protocol="v2", code="404")] == 1


def test_label_sets_beyond_the_bound_are_counted_together_and_said_to_be():
    metrics = ServingMetrics(max_label_sets=3)
    for number in range(10):
        metrics.of("digits", number).observe("200", 0.001)

    seen = read(metrics)

    assert seen["towline_requests_total", labels(model=OTHER, version="", track="", protocol="", code="200")] == 7
    assert seen["towline_metrics_dropped_total", labels()] == 7
    assert sum(value for (name, _), value in seen.items() if name == "towline_requests_total") == 10


def test_codes_nobody_foresaw_have_a_bound_too():
    metrics = ServingMetrics()
    requests = metrics.of("digits", 1)
    for number in range(MAX_CODES * 2):
        requests.observe(f"E{number}", 0.001)

    assert len(requests.codes) == MAX_CODES + 1
    assert requests.codes[OTHER] == MAX_CODES


def test_a_version_that_was_unloaded_leaves_the_page_and_makes_room():
    metrics = ServingMetrics(max_label_sets=1)
    metrics.of("digits", 1).observe("200", 0.001)
    metrics.batches("digits", 1).observe(1, 0, 0)
    metrics.set_ready("digits", 1, True)
    metrics.worker_restarted("digits", 1)
    metrics.quarantined("digits", 1)

    metrics.forget("digits", 1)

    assert b"digits" not in metrics.render()
    metrics.of("digits", 2).observe("200", 0.001)
    assert read(metrics)["towline_metrics_dropped_total", labels()] == 0


def test_readiness_deaths_and_quarantine_are_told_per_version():
    metrics = ServingMetrics()
    metrics.set_ready("digits", 3, True)
    metrics.set_ready("digits", 2, True)
    metrics.set_ready("digits", 2, False)
    metrics.worker_restarted("digits", 3)
    metrics.worker_restarted("digits", 3)
    metrics.quarantined("digits", 3)

    seen = read(metrics)

    assert seen["towline_model_ready", labels(model="digits", version="3")] == 1
    assert seen["towline_model_ready", labels(model="digits", version="2")] == 0
    assert seen["towline_worker_restarts_total", labels(model="digits", version="3")] == 2
    assert seen["towline_quarantined_total", labels(model="digits", version="3")] == 1


def test_the_memory_and_time_of_this_very_process_are_shown():
    metrics = ServingMetrics()
    sample = sample_process(os.getpid(), "front")

    assert sample is not None
    assert 5e6 < sample.resident_bytes < 5e9
    assert 0 < sample.cpu_s < 10_000
    mine = labels(role="front", model="", version="", pid=str(os.getpid()))
    assert read(metrics, sample)["towline_process_resident_memory_bytes", mine] == sample.resident_bytes


def test_a_process_that_is_gone_is_left_out():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

    assert sample_process(pid, "worker") is None


def test_every_line_is_a_comment_or_a_sample_and_the_page_ends_with_a_newline():
    metrics = ServingMetrics()
    metrics.of("digits", 3, "stable", "v2").observe("200", 0.001)
    text = metrics.render().decode()

    assert text.endswith("\n")
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{.*\})? -?[0-9.e+-]+", line), line


def test_observing_a_request_is_three_calls_and_no_look_into_a_bucket():
    requests = ServingMetrics().of("digits", 3, "stable", "v2")
    requests.observe("OK", 0.0007)
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        for _ in range(1000):
            requests.observe("OK", 0.0007)
    finally:
        sys.setprofile(None)

    # Ours and the interpreter's own. Now and then the noted ones are sorted into their buckets, all at once.
    assert calls < 6 * 1000
