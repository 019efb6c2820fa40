"""What is refused before it comes to a version is counted once, by its code, under a name that no client chose."""

from __future__ import annotations

import pytest
from bad_inputs import MAX_REQUEST_BYTES
from prometheus_client.parser import text_string_to_metric_families

from raw import Client, all_answers, fresh_metrics, predict, request
from towline.testing.server import RunningServer

LATE = ("_unknown", "REQUEST_TIMEOUT")


def counted(page: str) -> dict[tuple[str, str], float]:
    """(model, code) -> answers."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "towline_requests_total":
                key = sample.labels["model"], sample.labels["code"]
                found[key] = found.get(key, 0) + sample.value
    return found


def new_counts(server: RunningServer, raw: bytes) -> tuple[list[int], dict[tuple[str, str], float]]:
    """The statuses of the answers to `raw`, and what is counted more afterwards."""
    before = counted(fresh_metrics(server))
    statuses = [answer.status for answer in all_answers(server, raw)]
    # Without a further request, that nothing else is counted.
    server.wait_until(lambda: counted(server.get("/metrics")[1].decode()) != before)
    after = counted(server.get("/metrics")[1].decode())
    return statuses, {key: count - before.get(key, 0) for key, count in after.items() if count != before.get(key, 0)}


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (predict(b"{"), 400, "BAD_JSON"),
        (request("POST", "/v2/models/m/infer", b"{}", "Content-Type: application/json"), 400, "INVALID_ARGUMENT"),
        (request("POST", "/models/m/predict", b"{", "Content-Type: application/json"), 400, "BAD_JSON"),
        (request("GET", "/nothing"), 404, "NO_SUCH_PATH"),
        (predict(model="nobody"), 404, "NOT_FOUND"),
        (request("DELETE", "/predict"), 405, "WRONG_METHOD"),
        (request("POST", "/predict", b"", f"Content-Length: {MAX_REQUEST_BYTES + 1}"), 413, "BODY_TOO_LARGE"),
        (request("GET", "/livez", host="elsewhere.example"), 421, "MISDIRECTED"),
        (request("GET", "/livez", b"", "X: " + "x" * 40_000), 431, "HEADERS_TOO_LARGE"),
        (b"\0\0\0\0\r\n\r\n", 400, "BAD_REQUEST"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_a_refusal_is_counted_once_by_its_code(server: RunningServer, raw: bytes, status: int, code: str) -> None:
    statuses, more = new_counts(server, raw)

    assert statuses == [status]
    ((model, counted_code),) = more
    assert (model, more[model, counted_code]) == ("_unknown", 1)
    assert counted_code == code


def test_a_client_that_is_late_is_counted(hasty: RunningServer) -> None:
    before = counted(fresh_metrics(hasty)).get(LATE, 0)
    with Client(hasty.port) as client:
        client.send(b"GET /livez HT")
        assert [answer.status for answer in client.answers()] == [408]
    assert counted(fresh_metrics(hasty))[LATE] == before + 1


def test_what_a_version_refused_is_counted_by_it_alone(server: RunningServer) -> None:
    row = b'{"instances": [[1, 2, 3, 4, 5, 6, 7, 8]]}'

    statuses, more = new_counts(server, predict(row, "X-Request-Timeout-Ms: 1", model="slow"))

    assert statuses == [504]
    assert more == {("slow", "DEADLINE_EXCEEDED"): 1}
