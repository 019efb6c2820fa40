"""Every row of the bad-input catalogue, asked without a socket: the right status, code and words, and a service as good as before."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from bad_inputs import MAX_BATCH, MAX_REQUEST_BYTES, MODELS, ROWS, Row
from plane import Api, HonestPlane, version

from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpResponse

# What no error may give away: paths, tracebacks, class names.
SECRETS = (
    "/home",
    "/tmp",
    "/work",
    "site-packages",
    ".py",
    "Traceback",
    "msgspec",
    "JSONDecodeError",
    "ValueError",
    "Struct",
    "object at 0x",
)


@pytest.fixture(scope="module")
def api() -> Api:
    return Api(
        HonestPlane(*(version(name, model) for name, model in MODELS.items())),
        Limits(max_request_bytes=MAX_REQUEST_BYTES, max_batch=MAX_BATCH),
    )


def _parts(path: str, body: bytes) -> tuple[str, str, str]:
    """Message, code and field of an error body, which has the shape its protocol prescribes."""
    error = json.loads(body)
    if path.startswith(("/v1", "/v2")):
        assert set(error) == {"error", "code", "field"}
        return error["error"], error["code"], error["field"]
    assert set(error) == {"error"}
    assert set(error["error"]) == {"code", "message", "field", "request_id"}
    return error["error"]["message"], error["error"]["code"], error["error"]["field"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_a_bad_input_gets_its_own_answer_and_harms_nothing(api: Api, row: Row) -> None:
    started = time.process_time()
    answer = api.ask(row.method, row.path, row.body, row.headers)
    spent_s = time.process_time() - started

    message, code, field = _parts(row.path, answer.body)
    assert (answer.status, code) == (row.status, row.code), message
    assert [word for word in row.words if word not in message] == []
    assert row.field is None or field == row.field
    assert len(answer.body) <= 2048
    assert [secret for secret in SECRETS if secret in answer.body.decode()] == []
    assert spent_s < 1
    good = api.ask("POST", "/v1/models/m:predict", b'{"instances": [[1.5, 2]]}')
    assert (good.status, good.body) == (200, b'{"predictions":[[1.5,2.0]]}')


@pytest.mark.parametrize("row", [row for row in ROWS if len(row.body) < 1000], ids=lambda row: row.title)
def test_no_more_than_64_characters_of_what_was_sent_come_back(api: Api, row: Row) -> None:
    marked = row.path.replace("nobody", "z" * 500)
    body = row.body.replace(b'"z"', b'"' + b"z" * 500 + b'"').replace(b'"c"', b'"' + b"z" * 500 + b'"')

    answer = api.ask(row.method, marked, body, {name: value.replace("abc", "z" * 500) for name, value in row.headers.items()})

    assert b"z" * 65 not in answer.body
    assert len(answer.body) <= 2048


def test_a_thousand_refusals_leave_no_memory_behind(api: Api) -> None:
    small = [row for row in ROWS if len(row.body) < 1000]

    def all_once() -> None:
        for row in small:
            api.ask(row.method, row.path, row.body, row.headers)

    all_once()
    tracemalloc.start()
    try:
        all_once()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            all_once()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 64 << 10


def test_every_405_says_what_is_allowed(api: Api) -> None:
    for path in ("/predict", "/models/m/predict", "/v2/models/m/infer"):
        assert (b"allow", b"POST") in api.ask("GET", path).headers
    assert (b"allow", b"GET") in api.ask("POST", "/v2/health/live").headers


# Made when they are asked for: together they are half a gigabyte.
HUGE = {
    "a wrong value at the end": ("v1/models/m:predict", lambda: b'{"instances": [' + b"[1.5,2.5]," * 800_000 + b"[1,true]]}"),
    "a ragged end": ("v1/models/m:predict", lambda: b'{"instances": [' + b"[1.5,2.5]," * 800_000 + b"[1]]}"),
    "millions of empty lists": ("v1/models/m:predict", lambda: b'{"instances": [' + b"[]," * 15_000_000 + b"[]]}"),
    "empty lists up to the limit": ("v1/models/m:predict", lambda: b'{"instances": [' + b"[]," * 990_000 + b"[]]}"),
    "millions of objects": ("v1/models/m:predict", lambda: b'{"instances": [' + b"{}," * 3_000_000 + b"{}]}"),
    "a deep nest": ("v1/models/m:predict", lambda: b'{"instances": [' + b"[" * 8_000_000),
    "nulls": ("v1/models/m:predict", lambda: b'{"instances": [' + b"null," * 900_000 + b"null]}"),
    "many small numbers": ("v1/models/m:predict", lambda: b'{"inputs": [[' + b"1," * 16_000_000 + b"1]]}"),
    "many digits": ("v1/models/m:predict", lambda: b'{"instances": [' + b"9" * 30_000_000 + b"]}"),
    "escaped surrogate pairs": ("v1/models/m:predict", lambda: b'{"instances": ["' + b"\\ud83d\\ude00" * 1_500_000 + b'"]}'),
    "many strings of surrogate pairs": ("v1/models/m:predict", lambda: b'{"instances": [' + b'"\\ud83d\\ude00",' * 900_000 + b"1]}"),
    "many keys, the last one twice": (
        "v1/models/m:predict",
        lambda: b"{" + b",".join(b'"%d":1' % n for n in range(400_000)) + b',"399999":2}',
    ),
    "escaped quotes before NaN": ("models/m/predict", lambda: b'{"input": ["' + b'\\"' * 10_000_000 + b'", NaN]}'),
    "many strings": (
        "v2/models/text/infer",
        lambda: b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES","data":["a"' + b',"a"' * 3_000_000 + b"]}]}",
    ),
    "many inputs": (
        "v2/models/m/infer",
        lambda: b'{"inputs":[' + b",".join([b'{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}'] * 300_000) + b"]}",
    ),
    "deep parameters": ("v2/models/m/infer", lambda: b'{"inputs":[],"parameters":{"a":' + b"[" * 900 + b"]" * 900 + b"}}"),
}


def answer_to(name: str) -> HttpResponse:
    api = Api(HonestPlane(version("m", MODELS["m"]), version("text", MODELS["text"])), Limits(max_batch=1 << 24))
    path, body = HUGE[name]
    return api.ask("POST", f"/{path}", body(), {"Content-Type": "application/json"})


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_and_wrong_body_is_refused_in_few_words(name: str) -> None:
    answer = answer_to(name)

    assert answer.status in (400, 413)
    assert len(answer.body) <= 2048


@pytest.mark.services
@pytest.mark.parametrize("name", HUGE)
def test_a_huge_and_wrong_body_is_refused_soon(name: str) -> None:
    started = time.process_time()
    answer_to(name)

    # A second is the promise on a free machine; the quadratic searches this guards against took ten and more.
    assert time.process_time() - started < 4
