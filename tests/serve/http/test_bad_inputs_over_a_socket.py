"""The bad-input catalogue against a running server, with its standing checks (a) to (e)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from bad_inputs import ROWS, Row
from busy import spent_s

from raw import Answer, Client, is_well, keeps_at_most, predict
from towline.testing.server import RunningServer

# What no error may give away: paths, tracebacks, class names.
SECRETS = (
    *("/home", "/tmp", "/root", "/proc", "/dev", "site-packages", ".py", "Traceback", "msgspec", "onnxruntime", "numpy"),
    *("JSONDecodeError", "ValueError", "Struct", "object at 0x", "pid", "memfd"),
)
REPEATS = 200
SLACK_BYTES = 2 << 20


# Space around a header's value does not reach us: no such row can be sent.
SENT = [row for row in ROWS if all(value == value.strip() for value in row.headers.values())]


def sent(row: Row) -> bytes:
    headers = "".join(f"{name}: {value}\r\n" for name, value in row.headers.items())
    head = f"{row.method} {row.path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(row.body)}\r\n\r\n"
    return head.encode("latin-1") + row.body


def error_of(row: Row, answer: Answer) -> tuple[str, str, str]:
    """Message, code and field, in the shape that the row's protocol prescribes."""
    found = answer.json()
    if row.path.startswith(("/v1", "/v2")):
        assert set(found) == {"error", "code", "field"}
        return found["error"], found["code"], found["field"]
    assert set(found["error"]) == {"code", "message", "field", "request_id"}
    assert found["error"]["request_id"] == answer.one("x-request-id")
    return found["error"]["message"], found["error"]["code"], found["error"]["field"]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.port) as opened:
        yield opened


@pytest.fixture(scope="module")
def front(server: RunningServer) -> int:
    return server.front_pid


@pytest.mark.parametrize("row", SENT, ids=lambda row: row.title)
def test_a_bad_input_gets_its_own_answer_and_the_next_request_a_good_one(client: Client, front: int, row: Row) -> None:
    """All on one connection: what is wrong in a body is no reason to end it."""
    before_s = spent_s(front)
    answer = client.ask(sent(row), is_head=row.method == "HEAD")
    took_s = spent_s(front) - before_s

    message, code, field = error_of(row, answer)
    assert (answer.status, code) == (row.status, row.code), message
    assert [word for word in row.words if word not in message] == []
    assert row.field is None or field == row.field
    assert len(answer.body) <= 2048
    assert [secret for secret in SECRETS if secret in answer.body.decode()] == []
    assert took_s < 1
    assert client.ask(predict(b'{"instances": [[1.5, 2]]}')).json() == {"predictions": [[1.5, 2.0]]}


def test_no_worker_died_of_it_and_nothing_was_logged(server: RunningServer) -> None:
    workers = server.pids()["worker"]
    logged = server.log()

    with Client(server.port) as client:
        for row in SENT:
            client.ask(sent(row))

    assert server.pids()["worker"] == workers
    assert server.log()[len(logged) :].splitlines() == []
    assert is_well(server)


def test_two_hundred_of_each_leave_no_memory_behind(server: RunningServer) -> None:
    """Bodies of a few hundred bytes: what a hundred thousand refusals keep would be seen."""
    small = b"".join(sent(row) for row in SENT if len(row.body) < 1000)
    count = sum(1 for row in SENT if len(row.body) < 1000)

    def all_of_them(times: int) -> None:
        with Client(server.port) as client:
            for _ in range(times):
                client.send(small)
                for _ in range(count):
                    client.answer()

    all_of_them(20)

    assert keeps_at_most(server, SLACK_BYTES, lambda: all_of_them(REPEATS))
    assert is_well(server)


def test_no_more_of_what_was_sent_comes_back_than_64_characters(client: Client) -> None:
    long = "z" * 500
    for row in SENT:
        if len(row.body) >= 1000 or row.method == "HEAD":
            continue
        body = row.body.replace(b'"z"', json.dumps(long).encode()).replace(b'"c"', json.dumps(long).encode())
        path = row.path.replace("nobody", long).replace("nothing", long)
        marked = Row(row.title, path, body, row.status, headers=row.headers, method=row.method)
        assert b"z" * 65 not in client.ask(sent(marked)).body, row.title
