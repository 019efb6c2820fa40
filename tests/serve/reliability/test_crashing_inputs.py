"""A request that kills the engine: it alone is answered 500, once by a crash and then from quarantine; nobody else notices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from known_models import INT64_MIN, division
from load import Ask, Check, Load

from towline.app.listing import events
from towline.testing import tiny_models
from towline.testing.server import RunningServer

POISON = division([INT64_MIN], [-1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    model = tiny_models.integer_division("int64")
    with RunningServer(tiny_models.write(tmp_path_factory.mktemp("models"), model, "div.onnx")) as running:
        yield running


def quotients(expected: list[int]) -> Check:
    def check(status: int, body: bytes) -> str:
        got = json.loads(body).get("outputs", [{}])[0].get("data") if status == 200 else None
        return "" if got == expected else f"expected {expected}, got {status} {body[:200]!r}"

    return check


def good_asks() -> list[Ask]:
    rng = np.random.default_rng(0)
    asks = []
    for size in (1, 2, 3, 1, 5, 1):
        a, b = rng.integers(0, 1000, size).tolist(), rng.integers(1, 9, size).tolist()
        asks.append(Ask("/v2/models/div/infer", division(a, b), quotients([x // y for x, y in zip(a, b, strict=True)])))
    return asks


def crashes(server: RunningServer) -> int:
    return sum(event.kind == "worker.died" for event in events(home=server.home, limit=1000))


def test_an_input_that_kills_the_engine_is_refused_and_nobody_else_notices(server: RunningServer) -> None:
    with Load(server.host, server.port, good_asks(), clients=16, pause_s=0.005) as load:
        load.await_answers(64)
        status, body = server.post("/v2/models/div/infer", POISON)
        load.await_answers(64)

    assert status == 500
    assert json.loads(body)["code"] == "ENGINE_CRASHED"
    assert load.failures == []


def test_it_is_then_refused_without_another_crash_whatever_it_travels_with(server: RunningServer) -> None:
    server.post("/v2/models/div/infer", POISON)
    # The state file may still name the one that has just died.
    server.wait_until(lambda: server.worker_pid("div") in server.pids()["worker"])
    worker = server.worker_pid("div")
    again = Ask(
        "/v2/models/div/infer", POISON, lambda status, body: "" if (status, b"ENGINE_CRASHED" in body) == (500, True) else str(body)
    )

    with Load(server.host, server.port, [*good_asks(), again], clients=14, pause_s=0.005) as load:
        load.await_answers(200)

    assert load.failures == []
    assert load.statuses[500] > 5
    assert server.worker_pid("div") == worker


def test_the_store_tells_of_the_crash_and_of_the_input_by_its_digest_alone(server: RunningServer) -> None:
    server.post("/v2/models/div/infer", POISON)
    server.wait_until(lambda: any(event.kind == "request.quarantined" for event in events(home=server.home, limit=100)))
    told = [event for event in events(home=server.home, limit=100) if event.kind == "request.quarantined"]

    assert {event.name for event in told} == {"div"}
    assert told[0].data["signal"] == 8
    assert len(str(told[0].data["inputs"])) == 64
    assert crashes(server) >= 1


def test_many_different_crashing_inputs_at_once_cost_the_good_ones_nothing(server: RunningServer) -> None:
    poisons = [
        Ask(
            "/v2/models/div/infer",
            division([INT64_MIN, n], [-1, 1]),
            lambda status, body: "" if status == 500 else f"{status} {body[:200]!r}",
        )
        for n in range(6)
    ]
    with Load(server.host, server.port, good_asks(), clients=16, pause_s=0.01) as load:
        with Load(server.host, server.port, poisons, clients=6, pause_s=0.2) as bad:
            bad.await_answers(12)
        load.await_answers(32)

    assert bad.failures == []
    assert load.failures == []


def test_a_good_neighbour_in_the_same_batch_gets_its_answer(server: RunningServer, tmp_path: Path) -> None:
    asks = [Ask("/v2/models/div/infer", division([INT64_MIN, 7, n], [-1, 1, 1]), lambda status, body: "") for n in range(3)]
    with Load(server.host, server.port, [*asks, *good_asks()], clients=9, pause_s=0.0) as load:
        load.await_answers(100)

    wrong = [failure for failure in load.failures if "500" not in failure]
    assert wrong == []
    assert load.failures == []
