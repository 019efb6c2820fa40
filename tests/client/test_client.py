"""The client against a real small server."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from v2_server import Handler, V2Server

from towline.client.connection import parse_address
from towline.client.http import Client
from towline.client.wire import BadAnswer
from towline.core.errors import (
    Conflict,
    DeadlineExceeded,
    EngineError,
    InvalidRequest,
    Kind,
    NotFound,
    Overloaded,
    TowlineError,
    Unavailable,
    Unreachable,
)

ROW = np.array([[1, 2, 3]], np.float32)


@pytest.fixture
def server() -> Iterator[V2Server]:
    with V2Server() as running:
        yield running


@pytest.fixture
def client(server: V2Server) -> Iterator[Client]:
    with Client(server.url, timeout_s=120) as connected:
        yield connected


def test_an_array_in_gives_an_array_out(client: Client) -> None:
    got = client.predict("double", ROW)

    assert got.dtype == np.float32
    assert got.tolist() == [[2, 4, 6]]
    got[0, 0] = 7  # The caller's own to change.


def test_lists_become_the_types_the_model_takes(client: Client) -> None:
    assert client.predict("double", [[1, 2, 3]]).tolist() == [[2, 4, 6]]


def test_several_inputs_and_outputs_go_by_name(client: Client) -> None:
    got = client.predict("sum", {"b": [1, 2], "a": np.array([10, 20])})

    assert {name: array.tolist() for name, array in got.items()} == {"sum": [11, 22], "difference": [9, 18]}


def test_text_travels_as_bytes(client: Client) -> None:
    assert client.predict("shout", ["grüß", "x"]).tolist() == ["grüß".encode().upper(), b"X"]


def test_a_version_is_asked_for_by_its_number(client: Client, server: V2Server) -> None:
    client.predict("double", ROW, version=1)

    assert server.seen[-1][1] == "/v2/models/double/versions/1/infer"


def test_one_connection_serves_many_calls(client: Client, server: V2Server) -> None:
    for _ in range(5):
        client.predict("double", ROW)

    assert len(server.connections) == 1


def test_threads_share_a_client_and_not_a_connection(client: Client, server: V2Server) -> None:
    barrier = threading.Barrier(4)
    wrong = []

    def ask(number: int) -> None:
        barrier.wait()
        for _ in range(10):
            if client.predict("double", np.full((1, 3), number, np.float32)).tolist() != [[2.0 * number] * 3]:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(server.connections) == 4


def test_a_forked_child_does_not_speak_on_its_parents_connection(client: Client, server: V2Server) -> None:
    client.models()
    child = os.fork()
    if child == 0:
        os._exit(0 if client.models() else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert client.models() == ("double", "sum", "shout")
    assert len(server.connections) == 2


def test_metadata_models_and_readiness_are_told(client: Client) -> None:
    metadata = client.metadata("double")

    assert (metadata.name, metadata.versions, metadata.inputs[0].dtype, metadata.inputs[0].shape) == ("double", ("1",), "float32", (-1, 3))
    assert client.models() == ("double", "sum", "shout")
    assert client.is_ready()


def test_nobody_there_is_unreachable_and_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Client(url, timeout_s=60) as client:
        assert not client.is_ready()
        with pytest.raises(Unreachable, match="Nobody answers at http://127"):
            client.models()


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, InvalidRequest, Kind.INVALID),
        (401, InvalidRequest, Kind.UNAUTHENTICATED),
        (404, NotFound, Kind.NOT_FOUND),
        (409, Conflict, Kind.CONFLICT),
        (413, InvalidRequest, Kind.TOO_LARGE),
        (429, Overloaded, Kind.EXHAUSTED),
        (500, EngineError, Kind.INTERNAL),
        (501, EngineError, Kind.UNSUPPORTED),
        (504, DeadlineExceeded, Kind.DEADLINE),
        (507, EngineError, Kind.OUT_OF_MEMORY),
    ],
)
def test_a_refusal_is_the_servers_own_error(client: Client, server: V2Server, status: int, error: type[TowlineError], kind: Kind) -> None:
    body = json.dumps({"error": "rows differ", "code": "RAGGED", "field": "x"}).encode()
    server.script = [(status, {"Retry-After": "2"}, body)]

    with pytest.raises(error, match="rows differ") as caught:
        client.models()

    told = caught.value
    assert (told.kind, told.code, told.field, told.retry_after_s) == (kind, "RAGGED", "x", 2)
    assert len(server.seen) == 1, "only 503 is asked again"


def test_an_error_object_is_read_like_an_error_string(client: Client, server: V2Server) -> None:
    server.script = [(404, {}, b'{"error": {"code": "NO_SUCH", "message": "gone", "field": "name"}}')]

    with pytest.raises(NotFound, match="gone") as caught:
        client.models()

    assert (caught.value.code, caught.value.field) == ("NO_SUCH", "name")


def test_503_is_asked_again_after_the_pause_the_server_wants(client: Client, server: V2Server) -> None:
    server.script = [(503, {"Retry-After": "0.2"}, b"{}"), (503, {}, b"{}")]
    began_s = time.monotonic()

    assert client.models() == ("double", "sum", "shout")

    assert time.monotonic() - began_s >= 0.2
    assert len(server.seen) == 3


def test_503_for_ever_is_unavailable_after_four_tries(client: Client, server: V2Server) -> None:
    server.script = [(503, {"Retry-After": "0"}, b'{"error": "loading"}')] * 9

    with pytest.raises(Unavailable, match="loading"):
        client.models()

    assert len(server.seen) == 4


def test_a_pause_longer_than_ours_is_told_and_not_waited_for(client: Client, server: V2Server) -> None:
    server.script = [(503, {"Retry-After": "7"}, b'{"error": "later"}')]

    with pytest.raises(Unavailable) as caught:
        client.models()

    assert caught.value.retry_after_s == 7
    assert len(server.seen) == 1


def test_a_silent_server_is_given_up_at_the_deadline(server: V2Server) -> None:
    release = threading.Event()
    server.script = [lambda handler: release.wait(60) and None]
    with Client(server.url, timeout_s=0.2) as client, pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
        client.models()
    release.set()


def test_a_dripping_server_is_given_up_at_the_deadline(server: V2Server) -> None:
    release = threading.Event()

    def drip(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not release.wait(0.05):
            handler.wfile.write(b" ")
        handler.close_connection = True

    server.script = [drip]
    with Client(server.url, timeout_s=0.4) as client, pytest.raises(DeadlineExceeded):
        client.models()
    release.set()


def test_a_kept_connection_that_was_closed_meanwhile_is_opened_again(client: Client, server: V2Server) -> None:
    def answer_and_hang_up(handler: Handler) -> None:
        handler.answer(200, {}, b'{"models": []}')
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.script = [answer_and_hang_up]
    client.models()

    assert client.models() == ("double", "sum", "shout")


def test_a_request_whose_answer_was_lost_is_not_sent_twice(client: Client, server: V2Server) -> None:
    def hang_up(handler: Handler) -> None:
        handler.close_connection = True

    server.script = [hang_up, hang_up]
    with pytest.raises(BadAnswer, match="without an answer"):
        client.models()

    assert len(server.seen) == 1


def test_after_a_torn_answer_the_next_call_is_right(client: Client, server: V2Server) -> None:
    def tear(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
        handler.close_connection = True

    server.script = [tear]
    with pytest.raises(BadAnswer, match="not HTTP"):
        client.models()

    assert client.models() == ("double", "sum", "shout")


def test_a_swapped_model_with_other_inputs_is_looked_up_again(client: Client, server: V2Server) -> None:
    client.predict("double", ROW)
    server.double_input = "z"

    assert client.predict("double", ROW).tolist() == [[2, 4, 6]]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"<html>"),
        ({}, b"[]"),
        ({}, b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]}'),
        ({}, b'{"outputs": [{"name": "y", "datatype": "BF16", "shape": [2], "data": [1, 2]}]}'),
        ({"Inference-Header-Content-Length": "99999"}, b"{}"),
        ({"Inference-Header-Content-Length": "-1"}, b"{}"),
        ({"Inference-Header-Content-Length": "14"}, b'{"outputs":[]}' + b"left over"),
    ],
)
def test_an_answer_that_is_not_v2_is_named_so(client: Client, server: V2Server, headers: dict[str, str], body: bytes) -> None:
    client.metadata("double")
    server.script = [(200, headers, body)]

    with pytest.raises(BadAnswer):
        client.predict("double", ROW)


@pytest.mark.parametrize("sizes", [5, -4, True, "8"])
def test_an_output_outside_the_answer_is_refused(client: Client, server: V2Server, sizes: object) -> None:
    client.metadata("double")
    described = {"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": sizes}}
    head = json.dumps({"outputs": [described]}).encode()
    server.script = [(200, {"Inference-Header-Content-Length": str(len(head))}, head + struct.pack("<f", 1))]

    with pytest.raises(BadAnswer):
        client.predict("double", ROW)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://h:99999", "http://h/?q=1", "http://h\r\nx: y", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="address"):
        Client(url)


def test_a_secret_in_a_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Client("http://ann:hunter2@127.0.0.1:8000")

    assert "hunter2" not in caught.value.message + caught.value.hint


def test_a_key_travels_as_a_header_and_never_in_the_clear_beyond_this_machine(server: V2Server) -> None:
    with Client(server.url, key="s3cret") as client:
        client.models()

    assert server.seen[0][2]["authorization"] == "Bearer s3cret"
    with pytest.raises(InvalidRequest, match="in the clear"):
        Client("http://models.example", key="s3cret")


def test_a_path_before_the_servers_own_is_kept() -> None:
    assert parse_address("https://h/models/").path == "/models"
    assert parse_address("https://h").port == 443


def test_a_name_never_becomes_another_path(client: Client) -> None:
    with pytest.raises(InvalidRequest):
        client.predict("../repository", ROW)
