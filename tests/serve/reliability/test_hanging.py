"""What does not answer is not waited for: a stopped worker is replaced, a run past its deadline is stopped, or killed with its worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from known_models import mlp_asks, v2
from load import Ask, Load

from towline.serve.protocols.grpc.messages import MESSAGES
from towline.testing import tiny_models
from towline.testing.server import RunningServer

MODEL = tiny_models.mlp()
FOR_EVER = v2({"rounds": ("INT64", [1], [tiny_models.INT64_MAX])}, timeout=500_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    files = [tiny_models.write(folder, MODEL, "mlp.onnx"), tiny_models.write(folder, tiny_models.counted_loop(), "loop.onnx")]
    with RunningServer(*files) as running:
        yield running


def answered(status: int, body: bytes) -> str:
    return "" if status == 200 else f"{status} {body!r}"


def rounds(count: int) -> Ask:
    body = v2({"rounds": ("INT64", [1], [count])})
    return Ask(
        "/v2/models/loop/infer", body, lambda status, got: "" if status == 200 and f"[{count}.0]".encode() in got else f"{status} {got!r}"
    )


def test_a_stopped_worker_is_replaced_within_five_seconds_and_no_request_fails(server: RunningServer) -> None:
    with Load(server.host, server.port, mlp_asks("mlp", MODEL), clients=64) as load:
        load.await_answers(64)
        stopped = server.worker_pid("mlp")
        os.kill(stopped, signal.SIGSTOP)
        began_s = time.monotonic()
        server.wait_until(lambda: server.worker_pid("mlp") != stopped)
        took_s = time.monotonic() - began_s
        load.await_answers(64)

    assert load.failures == []
    assert took_s < 5.0
    assert stopped not in server.pids()["worker"]


def test_all_workers_stopped_at_once_spare_ones_too_are_replaced(server: RunningServer) -> None:
    stopped = server.pids()["worker"]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        ask = mlp_asks("mlp", MODEL)[0]
        assert ask.check(*server.ask("POST", ask.path, ask.body, timeout_s=15)) == ""
    finally:
        for pid in stopped:
            if pid in server.pids()["worker"]:
                os.kill(pid, signal.SIGCONT)


def test_a_run_that_never_ends_is_answered_504_at_its_deadline_and_stopped_without_losing_the_worker(server: RunningServer) -> None:
    server.wait_until(lambda: server.worker_pid("loop") in server.pids()["worker"])
    worker = server.worker_pid("loop")
    began_s = time.monotonic()
    status, body = server.post("/v2/models/loop/infer", FOR_EVER)
    took_s = time.monotonic() - began_s

    assert (status, json.loads(body)["code"]) == (504, "DEADLINE_EXCEEDED")
    assert 0.5 <= took_s < 0.9
    small = rounds(3)
    assert small.check(*server.post(small.path, small.body)) == ""
    assert server.worker_pid("loop") == worker


def test_a_short_deadline_is_counted_from_when_the_request_came_and_not_from_the_last_tick(server: RunningServer) -> None:
    body = v2({"rounds": ("INT64", [1], [1])}, timeout=60_000)
    server.post("/v2/models/loop/infer", body)

    assert [server.post("/v2/models/loop/infer", body)[0] for _ in range(20)] == [200] * 20
    # Whole requests in one packet of a kept connection go another way through the parser.
    with Load(server.host, server.port, [Ask("/v2/models/loop/infer", body, answered)], clients=2, pause_s=0.017) as load:
        load.await_answers(40)
    assert load.failures == []


def test_others_of_the_same_model_wait_for_it_and_get_their_answers(server: RunningServer) -> None:
    with Load(server.host, server.port, [rounds(5), rounds(9)], clients=16, pause_s=0.01) as load:
        load.await_answers(16)
        assert server.post("/v2/models/loop/infer", FOR_EVER)[0] == 504
        load.await_answers(32)

    assert load.failures == []


def test_a_worker_that_does_not_stop_is_killed_soon_after_the_deadline(server: RunningServer) -> None:
    server.wait_until(lambda: server.worker_pid("loop") in server.pids()["worker"])
    worker = server.worker_pid("loop")
    os.kill(worker, signal.SIGSTOP)
    began_s = time.monotonic()
    status, _ = server.post("/v2/models/loop/infer", v2({"rounds": ("INT64", [1], [5])}, timeout=300_000))
    answered_s = time.monotonic() - began_s
    server.wait_until(lambda: worker not in server.pids()["worker"], timeout_s=5)
    killed_s = time.monotonic() - began_s

    assert status == 504
    assert answered_s < 0.7
    assert killed_s < 0.3 + 2.0
    small = rounds(4)
    assert small.check(*server.post(small.path, small.body)) == ""


def endless() -> dict[str, bytes]:
    """A request without end in each dialect, by the name that its metrics have."""
    most = tiny_models.INT64_MAX
    head = b'{"inputs":[{"name":"rounds","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}}]}'
    message = MESSAGES["inference.ModelInferRequest"](model_name="loop")
    message.inputs.add(name="rounds", datatype="INT64", shape=[1]).contents.int64_contents.append(most)
    web = message.SerializeToString()
    mutation = f'mutation {{ predict(model: "loop", inputs: [{{name: "rounds", data: [{most}]}}]) {{ model }} }}'
    return {
        "openinference-rest": posted("/v2/models/loop/infer", head + struct.pack("<q", most), "Inference-Header-Content-Length", len(head)),
        "predict": posted("/models/loop/predict", b'{"input":[%d]}' % most),
        "tfserving-rest": posted("/v1/models/loop:predict", b'{"inputs":[%d]}' % most),
        "graphql": posted("/graphql", json.dumps({"query": mutation}).encode(), "Content-Type", "application/json"),
        "openinference-grpc": posted(
            "/inference.GRPCInferenceService/ModelInfer",
            struct.pack(">BI", 0, len(web)) + web,
            "Content-Type",
            "application/grpc-web+proto",
        ),
    }


def posted(path: str, body: bytes, name: str = "X-Nothing", value: object = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def inflight(server: RunningServer, protocol: str) -> int:
    lines = server.get("/metrics")[1].decode().splitlines()
    found = [line for line in lines if line.startswith("towline_inflight_requests{") and 'model="loop"' in line and f'"{protocol}"' in line]
    return sum(int(float(line.split()[-1])) for line in found)


def test_clients_that_leave_in_the_middle_of_a_run_do_not_cost_the_others_their_worker(server: RunningServer) -> None:
    server.wait_until(lambda: server.worker_pid("loop") in server.pids()["worker"])
    worker = server.worker_pid("loop")
    # More than it has threads: a run that went on would keep the others waiting.
    for name, said in endless().items():
        with socket.create_connection((server.host, server.port)) as leaving:
            leaving.sendall(said)
            server.wait_until(lambda name=name: inflight(server, name) == 1)  # type: ignore[misc]
        server.wait_until(lambda name=name: inflight(server, name) == 0)  # type: ignore[misc]
        small = rounds(4)
        assert small.check(*server.post(small.path, small.body)) == ""

    assert server.worker_pid("loop") == worker
