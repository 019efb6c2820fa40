"""Handlers in a real server: each kind over the protocols, and what becomes of those that misbehave."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from towline.testing.processes import resident_bytes
from towline.testing.server import RunningServer

HERE = Path(__file__).parent
NAMES = ("Echo", "Later", "Keeper", "Patient", "Sum", "Words", "Steps", "Endless", "Bad", "Stuck", "Wrong")
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("told") / "told.txt"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, told: Path) -> Iterator[RunningServer]:
    greeting = tmp_path_factory.mktemp("files") / "greeting.txt"
    greeting.write_text("hello\n")
    os.environ["TOLD"] = str(told)
    sources = [f"{HERE / 'handlers.py'}:{name}" for name in NAMES]
    with RunningServer(*sources, flags=("--include", str(greeting)), settings={"max_request_bytes": 1 << 20}) as running:
        yield running
    del os.environ["TOLD"]


def ask(server: RunningServer, model: str, body: Any, headers: dict[str, str] | None = None, query: str = "") -> tuple[int, Any]:
    status, raw = server.post(f"/models/{model}/predict{query}", json.dumps(body).encode(), headers)
    return status, json.loads(raw)


def events(raw: bytes) -> list[tuple[str, Any]]:
    """The events of a stream: their names, `part` where there is none, and their data."""
    found = []
    for block in raw.decode().split("\n\n")[:-1]:
        lines = [line.partition(": ")[::2] for line in block.split("\n")]
        name = dict(lines).get("event", "part")
        found.append((name, json.loads("\n".join(value for key, value in lines if key == "data"))))
    return found


def test_a_sync_handler_gets_the_body_and_gives_the_answer(server: RunningServer) -> None:
    assert ask(server, "Echo", {"name": "you"}) == (200, {"text": "hello you"})


def test_async_requests_run_at_once_in_one_process(server: RunningServer) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(server, "Later", {"of": 8, "values": [1, 2.5]}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {status for status, _ in answers} == {200}
    assert {answer["sum"] for _, answer in answers} == {3.5}
    assert len({answer["pid"] for _, answer in answers}) == 1


def test_what_a_handler_keeps_is_its_own_and_no_trial_is_in_it(server: RunningServer) -> None:
    answers = [ask(server, "Keeper", {"input": [value]})[1]["output"] for value in (5, 6, 7)]

    assert answers == [{"first": [5.0], "seen": [count]} for count in (1, 2, 3)]


@pytest.mark.parametrize("how", ["here", "task"])
def test_an_async_method_that_leaves_does_not_take_the_event_loop_along(server: RunningServer, how: str) -> None:
    status, _ = ask(server, "Later", {"of": 0, "exit": how})

    assert status == (500 if how == "here" else 200)
    assert ask(server, "Later", {"of": 0})[0] == 200


def test_a_handler_with_a_signature_answers_every_protocol(server: RunningServer) -> None:
    tensor = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}

    v1 = server.post("/v1/models/Sum:predict", b'{"instances": [[1, 2, 3]]}')
    v2 = server.post("/v2/models/Sum/infer", json.dumps({"inputs": [tensor]}).encode())

    assert json.loads(v1[1]) == {"predictions": [6.0]}
    assert json.loads(v2[1])["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2], "data": [6.0, 15.0]}]
    assert ask(server, "Sum", {"input": [[1, 2, 3]]}) == (200, {"output": [6.0]})
    assert json.loads(server.post("/v2/models/Sum/generate", b'{"x": [1, 2, 3], "id": "a"}')[1]) == {
        "id": "a",
        "model_name": "Sum",
        "model_version": "1",
        "y": 6.0,
    }


@pytest.mark.parametrize("how", [{"headers": EVENTS}, {"query": "?stream=true"}])
def test_a_generator_streams_events_to_who_asks_for_them(server: RunningServer, how: dict[str, Any]) -> None:
    path, headers = f"/models/Words/predict{how.get('query', '')}", how.get("headers")

    status, raw = server.post(path, b'{"text": "one two three"}', headers)

    assert status == 200
    assert events(raw) == [("part", {"word": "one"}), ("part", {"word": "two"}), ("part", {"word": "three"}), ("end", {})]


def test_a_generator_is_collected_for_who_does_not(server: RunningServer) -> None:
    assert ask(server, "Words", {"text": "one two"}) == (200, [{"word": "one"}, {"word": "two"}])


def test_a_typed_stream_has_its_tensors_in_each_event_and_joined_in_the_whole(server: RunningServer) -> None:
    status, raw = server.post("/v2/models/Steps/generate_stream", b'{"n": 3}')
    whole = server.post("/v2/models/Steps/infer", b'{"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [4]}]}')

    assert status == 200
    assert [event["y"] for _, event in events(raw)] == [0.0, 1.0, 2.0]
    assert json.loads(whole[1])["outputs"][0]["data"] == [0.0, 1.0, 2.0, 3.0]
    assert events(server.post("/models/Steps/predict", b'{"input": [2]}', EVENTS)[1]) == [
        ("part", {"output": [0.0]}),
        ("part", {"output": [1.0]}),
        ("end", {}),
    ]


def test_a_part_arrives_while_the_next_is_not_made_yet(server: RunningServer, told: Path) -> None:
    connection = HTTPConnection(server.host, server.port, timeout=30)
    connection.request("POST", "/models/Words/predict", b'{"text": "a WAIT", "for": ".read"}', EVENTS)
    answer = connection.getresponse()
    first = answer.readline()
    Path(f"{told}.read").touch()
    rest = answer.read()
    connection.close()

    assert json.loads(first.removeprefix(b"data: ")) == {"word": "a"}
    assert events(rest.removeprefix(b"\n")) == [("part", {"word": "WAIT"}), ("end", {})]


def session(script: str, *arguments: str) -> Any:
    """What a client prints that runs in a process of its own."""
    command = [sys.executable, str(HERE / script), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_script_reads_events_line_by_line(server: RunningServer) -> None:
    told = session("events_session.py", server.url)

    words = [f'data: {{"word":"{word}"}}' for word in ("one", "two", "three")]
    assert told == {"type": "text/event-stream", "lines": [*words, "event: end", "data: {}"]}


def test_tritons_client_gets_a_message_for_each_part_and_the_end_where_it_asks(server: RunningServer) -> None:
    told = session("triton_stream_session.py", server.grpc_address)

    assert told["plain"] == [[[float(step)], "seven", None] for step in range(3)]
    assert told["ended"] == [*([[float(step)], "seven", False] for step in range(3)), [None, "seven", True]]


def test_the_connection_goes_on_after_a_stream(server: RunningServer) -> None:
    connection = HTTPConnection(server.host, server.port, timeout=30)
    for _ in range(3):
        connection.request("POST", "/models/Words/predict", b'{"text": "a"}', EVENTS)
        assert events(connection.getresponse().read()) == [("part", {"word": "a"}), ("end", {})]
    connection.close()


def test_an_error_before_the_first_part_is_an_answer_and_after_it_an_event(server: RunningServer) -> None:
    status, early = ask(server, "Words", {"text": "FAIL"}, EVENTS)
    _, raw = server.post("/models/Words/predict", b'{"text": "a FAIL"}', EVENTS)

    assert (status, early["error"]["code"]) == (500, "HANDLER_FAILED")
    assert [name for name, _ in events(raw)] == ["part", "error"]
    assert events(raw)[1][1]["error"]["message"] == "The handler's predict raised ValueError."
    assert b"secret" not in raw


def test_a_worker_that_dies_after_the_first_part_is_an_error_event_and_the_next_request_is_served(server: RunningServer) -> None:
    _, raw = server.post("/models/Words/predict", b'{"text": "a DIE"}', EVENTS)

    assert events(raw)[-1][1]["error"]["code"] == "WORKER_DIED"
    server.wait_until(lambda: ask(server, "Words", {"text": "b"}) == (200, [{"word": "b"}]))


def test_a_client_that_does_not_read_stops_the_generator_and_one_that_goes_closes_it(server: RunningServer, told: Path) -> None:
    front_bytes = resident_bytes(server.front_pid)
    connection = HTTPConnection(server.host, server.port, timeout=30)
    connection.connect()
    # How much is on its way is then ours to say, and not the machine's.
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.request("POST", "/models/Endless/predict", b"{}", EVENTS)
    answer = connection.getresponse()
    server.wait_until(lambda: told.exists() and at_rest(told))
    closed = counts(told)[1]
    grown_bytes = resident_bytes(server.front_pid) - front_bytes
    answer.close()
    connection.close()

    assert closed == 0
    assert grown_bytes < 16 << 20
    server.wait_until(lambda: counts(told)[1] == 1)
    # What the sockets of both ends hold, and not what a generator makes in that time.
    assert 0 < counts(told)[0] < 400


def counts(told: Path) -> tuple[int, int]:
    made, closed = map(int, told.read_text().split())
    return made, closed


def at_rest(told: Path) -> bool:
    before = told.read_text()
    time.sleep(0.3)
    return before == told.read_text()


def test_a_stream_that_is_collected_is_no_larger_than_an_answer_may_be(server: RunningServer) -> None:
    status, answer = ask(server, "Endless", {})

    assert (status, answer["error"]["code"]) == (500, "OUTPUT_TOO_LARGE")


@pytest.mark.parametrize(
    ("do", "status", "code", "message"),
    [
        ("decode", 500, "HANDLER_FAILED", "The handler's decode raised KeyError."),
        ("predict", 500, "HANDLER_FAILED", "The handler's predict raised ZeroDivisionError."),
        ("encode", 500, "HANDLER_FAILED", "The handler's encode raised RuntimeError."),
        ("exit", 500, "HANDLER_FAILED", "The handler's predict raised SystemExit."),
        ("stop", 500, "HANDLER_FAILED", "The handler's predict raised StopIteration."),
        ("object", 500, "HANDLER_BAD_OUTPUT", "The handler gave a object that cannot be written as JSON"),
        ("refuse", 400, "NOT_THAT", "Not that."),
    ],
)
def test_what_a_handler_raises_is_an_answer_and_its_worker_lives_on(
    server: RunningServer, do: str, status: int, code: str, message: str
) -> None:
    pid = ask(server, "Bad", {"do": "nothing"})[1]["pid"]

    got, answer = ask(server, "Bad", {"do": do})

    assert (got, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"].startswith(message)
    assert ask(server, "Bad", {"do": "nothing"})[1]["pid"] == pid


def test_a_body_that_is_no_json_is_refused(server: RunningServer) -> None:
    status, raw = server.post("/models/Echo/predict", b"{not json")

    assert (status, json.loads(raw)["error"]["code"]) == (400, "INVALID_JSON")


@pytest.mark.parametrize(("value", "said"), [(7, "float64"), (8, "shape [1, 1]")])
def test_an_output_that_is_not_what_was_declared_is_an_error_that_says_so(server: RunningServer, value: int, said: str) -> None:
    status, answer = ask(server, "Wrong", {"input": [value]})

    assert (status, answer["error"]["code"]) == (500, "HANDLER_BAD_OUTPUT")
    assert said in answer["error"]["message"]


def test_a_crash_is_503_once_and_not_tried_again(server: RunningServer) -> None:
    before = ask(server, "Bad", {"do": "nothing"})[1]["pid"]

    status, answer = ask(server, "Bad", {"do": "crash"})

    assert (status, answer["error"]["code"]) == (503, "WORKER_DIED")
    server.wait_until(lambda: ask(server, "Bad", {"do": "nothing"})[0] == 200)
    assert ask(server, "Bad", {"do": "nothing"})[1]["pid"] != before
    server.wait_until(lambda: "Segmentation fault" in server.log())


def test_one_that_never_ends_is_answered_at_its_deadline_and_its_worker_replaced(server: RunningServer) -> None:
    pids: list[int] = []

    def is_answered() -> bool:
        status, answer = ask(server, "Stuck", {"for_ever": False})
        pids.extend([answer["pid"]] if status == 200 else [])
        return status == 200

    server.wait_until(is_answered)
    status, answer = ask(server, "Stuck", {"for_ever": True})

    assert (status, answer["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
    server.wait_until(is_answered)
    assert pids[0] != pids[1]


def test_an_async_request_whose_client_goes_is_cancelled(server: RunningServer, told: Path) -> None:
    patient = Path(f"{told}.patient")
    connection = HTTPConnection(server.host, server.port, timeout=30)
    connection.request("POST", "/models/Patient/predict", b"{}")
    server.wait_until(lambda: patient.exists() and patient.read_text() == "waits")
    before = server.pids()["worker"]
    connection.close()

    server.wait_until(lambda: patient.read_text() == "stopped")
    assert server.pids()["worker"] == before


def test_a_deadline_in_the_middle_of_a_stream_is_an_event(server: RunningServer) -> None:
    body = json.dumps({"text": "a " * 100, "pause_s": 0.2}).encode()
    # A busy machine may not be in the middle of it so soon: it is given more time.
    for timeout_ms in (700, 3000, 12_000):
        _, raw = server.post("/models/Words/predict", body, {**EVENTS, "X-Request-Timeout-Ms": str(timeout_ms)})
        if events(raw):
            break

    assert events(raw)[0] == ("part", {"word": "a"})
    assert events(raw)[-1][1]["error"]["code"] == "DEADLINE_EXCEEDED"
    server.wait_until(lambda: ask(server, "Words", {"text": "b"}) == (200, [{"word": "b"}]))


def test_ten_megabytes_of_output_are_a_few_lines_of_the_log_and_none_of_it_is_a_command(server: RunningServer) -> None:
    before = len(server.log())
    began = time.monotonic()

    status, answer = ask(server, "Bad", {"do": "print"})

    assert (status, answer["did"]) == (200, "print")
    assert ask(server, "Bad", {"do": "thread"})[0] == 200
    assert ask(server, "Bad", {"do": "nothing"})[1]["pid"] == answer["pid"]
    server.wait_until(lambda: "ZeroDivisionError" in server.log()[before:])
    assert ask(server, "Bad", {"do": "nothing"})[1]["pid"] == answer["pid"]
    log = server.log()[before:]
    assert len(log) < (300 << 10) + (32 << 10) * (2 + time.monotonic() - began)
    assert "\\x1b[31m" in log
    assert "\x1b" not in log


def test_nobody_but_a_worker_ever_imports_a_handler(server: RunningServer, told: Path) -> None:
    importers = Path(f"{told}.importers").read_text().splitlines()

    assert len(importers) >= 2 * len(NAMES)
    assert {importer for importer in importers if " towline.engines." not in importer} == set()


def test_stopping_waits_for_a_stream_and_completes_it(server: RunningServer) -> None:
    """Last: it ends the server."""
    connection = HTTPConnection(server.host, server.port, timeout=30)
    connection.request("POST", "/models/Words/predict", b'{"text": "a b c", "pause_s": 0.5}', EVENTS)
    answer: HTTPResponse = connection.getresponse()
    assert answer.readline().startswith(b"data")
    server.send_signal(15)
    rest = answer.read()
    connection.close()

    assert rest.endswith(b"event: end\ndata: {}\n\n")
    assert server.wait() == 0
