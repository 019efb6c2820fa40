"""With keys, nothing but the probes is answered without one, over HTTP and gRPC alike, and a revoked key is refused soon."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import towline
from towline.app.keys import create_key, revoke_key
from towline.core.errors import Kind, TowlineError
from towline.testing import tiny_models
from towline.testing.server import RunningServer

BODY = b'{"instances": [[1, 2]]}'
PROTECTED = [
    ("POST", "/v1/models/m:predict", BODY),
    ("POST", "/v2/models/m/infer", b"{}"),
    ("POST", "/models/m/predict", b'{"input": [[1, 2]]}'),
    ("GET", "/v1/models/m", None),
    ("GET", "/v2", None),
    ("GET", "/v2/models", None),
    ("GET", "/v2/models/m", None),
    ("GET", "/metrics", None),
    ("GET", "/nothing/is/here", None),
    ("PUT", "/v2/models/m/infer", b"{}"),
    ("POST", "/graphql", b'{"query": "{ __schema { types { name } } }"}'),
]
OPEN = ["/livez", "/readyz", "/startupz", "/v2/health/live", "/v2/health/ready"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    home = tmp_path_factory.mktemp("home")
    towline.import_model(tiny_models.write(home, tiny_models.identity(), "m.onnx"), name="m", home=home)
    return home, create_key("alice", home=home)


@pytest.fixture(scope="module")
def server(place: tuple[Path, str]) -> Iterator[RunningServer]:
    with RunningServer("m", home=place[0]) as running:
        yield running


@pytest.mark.parametrize(("method", "path", "body"), PROTECTED)
def test_nothing_is_answered_without_a_key(
    server: RunningServer, place: tuple[Path, str], method: str, path: str, body: bytes | None
) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}, {"authorization": "Basic YTpi"}):
        status, answer = server.ask(method, path, body, headers)
        assert status == 401
        assert json.loads(answer)["error"]["code"] == "UNAUTHENTICATED"
    status, _ = server.ask(method, path, body, {"authorization": f"Bearer {place[1]}"})
    assert status != 401


def test_the_probes_are_open(server: RunningServer) -> None:
    assert [server.get(path)[0] for path in OPEN] == [200] * len(OPEN)


def test_both_headers_are_taken_and_two_keys_are_not(server: RunningServer, place: tuple[Path, str]) -> None:
    key = place[1]
    assert server.post("/v1/models/m:predict", BODY, {"x-api-key": key})[0] == 200
    assert server.post("/v1/models/m:predict", BODY, {"authorization": f"bearer {key}"})[0] == 200
    status, answer = server.post("/v1/models/m:predict", BODY, {"authorization": f"Bearer {key}", "x-api-key": key})
    assert (status, json.loads(answer)["error"]["code"]) == (400, "TWO_KEYS")


def test_without_a_key_the_body_is_not_waited_for(server: RunningServer) -> None:
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n")
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nwww-authenticate: Bearer\r\n" in answer
    assert b"\r\nconnection: close\r\n" in answer


def test_a_client_of_ours_says_what_is_wrong_and_works_with_a_key(server: RunningServer, place: tuple[Path, str]) -> None:
    with towline.Client(server.url) as stranger, pytest.raises(TowlineError, match="asks for a key") as refused:
        stranger.predict("m", [[1.0, 2.0]])
    assert refused.value.kind is Kind.UNAUTHENTICATED
    with towline.Client(server.url, key=place[1]) as friend:
        assert friend.predict("m", [[1.0, 2.0]]).tolist() == [[1.0, 2.0]]


def called(server: RunningServer, path: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    with grpc.insecure_channel(server.grpc_address) as channel:
        try:
            channel.unary_unary(path)(b"", metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_grpc_asks_too(server: RunningServer, place: tuple[Path, str]) -> None:
    bearer = f"Bearer {place[1]}"
    path = "/inference.GRPCInferenceService/ServerMetadata"

    assert called(server, path) is grpc.StatusCode.UNAUTHENTICATED
    assert called(server, path, ("authorization", "Bearer wrong")) is grpc.StatusCode.UNAUTHENTICATED
    assert called(server, path, ("authorization", bearer), ("authorization", bearer)) is grpc.StatusCode.INVALID_ARGUMENT
    assert called(server, path, ("authorization", bearer)) is grpc.StatusCode.OK
    assert called(server, path, ("x-api-key", place[1])) is grpc.StatusCode.OK
    assert called(server, "/tensorflow.serving.PredictionService/Predict") is grpc.StatusCode.UNAUTHENTICATED
    assert called(server, "/inference.GRPCInferenceService/ServerLive") is grpc.StatusCode.OK
    assert called(server, "/grpc.health.v1.Health/Check") is grpc.StatusCode.OK


def test_a_revoked_key_is_refused_on_a_connection_that_is_open(server: RunningServer, place: tuple[Path, str]) -> None:
    key = create_key("bob", home=place[0])
    request = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: localhost\r\nx-api-key: %b\r\ncontent-length: %d\r\n\r\n%b"
    request %= (key.encode(), len(BODY), BODY)
    server.wait_until(lambda: server.post("/v1/models/m:predict", BODY, {"x-api-key": key})[0] == 200)
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        revoke_key("bob", home=place[0])
        server.wait_until(lambda: server.post("/v1/models/m:predict", BODY, {"x-api-key": key})[0] == 401)
        connection.sendall(request)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_a_key_is_in_no_log_and_no_event(server: RunningServer, place: tuple[Path, str]) -> None:
    secret = place[1].removeprefix("tow_")
    assert secret not in server.log()
    found = [path for path in place[0].rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert found == []
