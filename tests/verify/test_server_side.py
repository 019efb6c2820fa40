"""What a server tells of its time, and what the system tells of its cost."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from towline.monitor.metrics import ServingMetrics
from towline.verify.latency.server_cost import Usage, cost_between, listeners, usage, with_descendants
from towline.verify.latency.server_time import METRICS, STATISTICS, ServerTime, between, from_metrics, from_statistics


def triton(count: int, *, name: str = "m", version: str = "1", executions: int | None = None) -> bytes:
    """As Triton answers /v2/models/m/stats: every part 1, 2, 3, 4 microseconds a request."""
    parts = {
        part: {"count": count, "ns": count * (number + 1) * 1000}
        for number, part in enumerate(("queue", "compute_input", "compute_infer", "compute_output"))
    }
    row = {
        "name": name,
        "version": version,
        "inference_count": count,
        "execution_count": count if executions is None else executions,
        "inference_stats": {"success": {"count": count, "ns": 9}, **parts},
    }
    return json.dumps({"model_stats": [row]}).encode()


def test_v2_statistics_are_told_apart_by_part() -> None:
    found = between(from_statistics(triton(100), "m"), from_statistics(triton(300, executions=150), "m"))

    assert found == ServerTime(STATISTICS, *map(pytest.approx, (0.001, 0.002, 0.003, 0.004)), batch=200 / 50)
    assert found is not None
    assert (found.compute_ms, found.total_ms) == (pytest.approx(0.003), pytest.approx(0.010))


def test_only_the_version_that_was_measured_counts() -> None:
    assert from_statistics(triton(5, version="2"), "m", 1) is None
    assert from_statistics(triton(5, version="2"), "m", 2) is not None
    assert from_statistics(triton(5, name="other"), "m") is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"model_stats": [{}]}', b'{"model_stats": 3}', b"[" * 100_000])
def test_what_is_no_statistics_is_nothing(raw: bytes) -> None:
    assert from_statistics(raw, "m") is None


def rendered(metrics: ServingMetrics) -> str:
    return metrics.render().decode()


def test_towlines_own_metrics_are_read() -> None:
    metrics = ServingMetrics()
    batches, other = metrics.batches("m", 1), metrics.batches("n", 1)
    batches.observe(1, 9.0, 9.0)
    before = from_metrics(rendered(metrics), "m")
    for _ in range(4):
        batches.observe(3, 0.002, 0.004)
        other.observe(1, 5.0, 5.0)

    found = between(before, from_metrics(rendered(metrics), "m"))

    assert found is not None
    assert (found.source, found.batch) == (METRICS, pytest.approx(3.0))
    assert (found.queue_ms, found.compute_ms) == (pytest.approx(2.0), pytest.approx(4.0))
    assert from_metrics(rendered(metrics), "nobody") is None
    assert from_metrics(rendered(metrics), "m", 2) is None


def test_counters_that_did_not_move_or_ran_backwards_tell_nothing() -> None:
    few, many = from_statistics(triton(1), "m"), from_statistics(triton(9), "m")

    assert between(few, few) is None
    assert between(many, few) is None
    assert between(None, many) is None
    assert between(few, None) is None


def test_a_server_is_its_processes_and_all_below_them() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 5}

    assert with_descendants({2}, parents) == {2, 3, 4}
    assert with_descendants({2, 6}, parents) == {2, 3, 4, 6}
    assert with_descendants(set(), parents) == frozenset()


CHILD = """
import sys
print("up", flush=True)
sys.stdin.readline()
sum(range(3_000_000))
print("done", flush=True)
sys.stdin.readline()
"""
SERVER = """
import socket, subprocess, sys
held = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(held.getsockname()[1], flush=True)
child.wait()
"""


def test_processor_time_and_memory_of_a_server_are_those_of_its_children_too() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        port = next(int(word) for word in (server.stdout.readline(), server.stdout.readline()) if word.strip().isdigit())
        roots = listeners({port})
        before = usage(roots)
        server.stdin.write("go\n")
        server.stdin.flush()
        assert server.stdout.readline() == "done\n"
        after = usage(roots)
        server.stdin.write("go\n")

    assert roots == {server.pid}
    cost = cost_between(before, after, 1000)
    assert cost is not None
    assert cost.processes == 2
    assert 5 < cost.cpu_us < 5000
    assert cost.resident_bytes > 4 << 20


def test_a_port_nobody_listens_on_has_no_server() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))

        assert listeners({held.getsockname()[1]}) == frozenset()
    assert usage(frozenset()) is None


def test_cost_is_per_answer_and_unknown_without_one() -> None:
    before, after = Usage(0.0, {1: 1.0, 2: 5.0}, 10), Usage(1.0, {1: 1.5, 3: 0.25}, 20)

    # Process 2 has ended, process 3 began meanwhile.
    assert cost_between(before, after, 1000).cpu_us == pytest.approx(750.0)  # type: ignore[union-attr]
    assert cost_between(before, after, 0) is None
    assert cost_between(None, after, 5) is None
