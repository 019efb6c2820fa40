"""What the server says of itself: alive, started, ready, and its counts; and that no client can make any of it grow."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from bad_inputs import MODELS
from prometheus_client.parser import text_string_to_metric_families

from raw import GOOD_ANSWER, GOOD_BODY, Client, ask, fresh_metrics, is_well, keeps_at_most, predict, request
from towline.testing import tiny_models
from towline.testing.server import RunningServer

# serve/front.py
HOLD_S = 3.0
LIVE, READY, STARTED = (request("GET", path) for path in ("/livez", "/readyz", "/startupz"))


def _samples(server: RunningServer) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(fresh_metrics(server))
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


def _answered(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], **labels: str) -> float:
    return sum(value for (name, found), value in samples.items() if name == "towline_requests_total" and set(labels.items()) <= set(found))


def test_a_server_is_alive_before_it_is_started_and_started_before_it_is_ready_no_more(tmp_path: Path) -> None:
    model = tiny_models.write(tmp_path, MODELS["m"], "m.onnx")
    # Before there was a front that could begin to hold its clients.
    began_s = time.monotonic()
    with RunningServer(model, await_ready=False) as server:
        with Client(server.port) as early:
            # Who comes early waits for the models, for a while.
            first = early.ask(predict())
            assert first.body == GOOD_ANSWER or time.monotonic() - began_s > HOLD_S
            seen = [(early.ask(LIVE).status, early.ask(STARTED).status, early.ask(READY).status)]
            while seen[-1] != (200, 200, 200):
                seen.append((early.ask(LIVE).status, early.ask(STARTED).status, early.ask(READY).status))
        # gRPC listens by then as well.
        host, _, grpc_port = server.grpc_address.rpartition(":")
        socket.create_connection((host, int(grpc_port)), timeout=30).close()
        assert {live for live, _, _ in seen} == {200}
        # Asked last, ready may be seen a moment after started, and never before it.
        assert {(started, ready) for _, started, ready in seen} <= {(503, 503), (503, 200), (200, 200)}
        assert ask(server, predict()).body == GOOD_ANSWER

        worker = server.worker_pid("m")
        os.kill(worker, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        server.wait_until(lambda: ask(server, READY).status == 503 or server.worker_pid("m") != worker)
        assert (ask(server, LIVE).status, ask(server, STARTED).status) == (200, 200)
        server.wait_until(server.is_ready)
        assert ask(server, predict()).body == GOOD_ANSWER


def test_a_server_that_is_to_serve_nothing_is_ready_and_says_404(tmp_path: Path) -> None:
    with RunningServer(home=tmp_path / "home") as server:
        assert ask(server, READY).status == 200
        assert ask(server, predict()).status == 404


def test_metrics_parse_and_count_what_was_answered(server: RunningServer) -> None:
    before = _answered(_samples(server), model="m", protocol="tfserving-rest", code="OK")
    for _ in range(5):
        assert ask(server, predict()).status == 200

    assert ask(server, request("GET", "/metrics")).one("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    samples = _samples(server)
    assert _answered(samples, model="m", protocol="tfserving-rest", code="OK") == before + 5
    assert len({name for name, _ in samples}) >= 6
    buckets = [
        value for (name, labels), value in samples.items() if name == "towline_request_duration_seconds_bucket" and ("model", "m") in labels
    ]
    assert buckets
    assert [labels for (name, labels), value in samples.items() if name == "towline_inflight_requests" and value != 0] == []


@pytest.mark.parametrize(
    "path", ["/v1/models/{}:predict", "/v2/models/{}/infer", "/models/{}/predict", "/{}", "/v1/models/m/versions/{}:predict", "/livez?{}"]
)
def test_thousands_of_names_nobody_serves_grow_neither_series_nor_memory(server: RunningServer, path: str) -> None:
    def ask_for(names: range) -> None:
        with Client(server.port) as client:
            for start in range(names.start, names.stop, 100):
                client.send(b"".join(_unknown(path, number) for number in range(start, start + 100)))
                for _ in range(100):
                    assert client.answer().status in (200, 400, 404)

    # The first thousands fill what is bounded: the cache of targets, the pools of the allocator.
    ask_for(range(5_000))
    series = len(_samples(server))
    starts = itertools.count(5_000, 5_000)

    assert keeps_at_most(server, 1 << 20, lambda: ask_for(range(start := next(starts), start + 5_000)))
    assert len(_samples(server)) == series


def _unknown(path: str, number: int) -> bytes:
    target = path.format(f"{number}-{'n' * 60}" if "versions" not in path else str(number + 2))
    return request("GET" if path.startswith(("/{", "/livez")) else "POST", target, GOOD_BODY, "Content-Type: application/json")


def test_long_targets_are_not_remembered(server: RunningServer) -> None:
    def ask_for(numbers: range) -> None:
        with Client(server.port) as client:
            for number in numbers:
                assert client.ask(request("GET", f"/livez?{number}{'q' * 8000}")).status == 200

    ask_for(range(200))
    before = server.rss_bytes(server.front_pid)
    ask_for(range(200, 1_200))

    # Eight megabytes of targets went by.
    assert server.rss_bytes(server.front_pid) - before <= 4 << 20
    assert is_well(server)
