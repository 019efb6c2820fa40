"""Whatever comes to /predict gets one answer, of the caller's fault or a good one, in bounded words; for minutes in the services tier."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import ReadingPlane, jpeg, png, reader, table, wav
from plane import Api, version

from towline.core.manifest import TensorSpec
from towline.serve.codecs.check import Limits
from towline.testing import tiny_models

MODELS = ("image", "audio", "text", "table", "numbers", "two", "echo")
MEDIA = ("application/json", "multipart/form-data; boundary=b", "image/png", "audio/wav", "text/plain", "application/octet-stream")
PIECES = (
    b"--b",
    b"--b--",
    b"\r\n",
    b"\r\n\r\n",
    b'Content-Disposition: form-data; name="image"; filename="../x"',
    b'Content-Disposition: form-data; name="a"',
    b'Content-Disposition: form-data; name="age"',
    b'Content-Disposition: form-data; name="top"',
    b"Content-Type: image/png",
    png(),
    png(60_000, 60_000)[:40],
    jpeg(),
    b"\xff\xd8" + b"\xff" * 50,
    wav()[:30],
    b"RIFF",
    b"[1, 2]",
    b"[[1, 2]]",
    b"1e400",
    b"NaN",
    b'{"image": {"b64": "aGVsbG8="}}',
    b'{"image_data": "',
    b'"data:image/png;base64,aGk="',
    b'{"instances": [',
    b"]}",
    b'{"a": [1, 2], "b": [3, 4]}',
    b'{"age": null, "city": "Bern"}',
    b"\xed\xa0\x80",
    b"\0",
)
# Also whole parts, or nearly nothing would get beyond the parser.
PARTS = st.tuples(st.sampled_from(["image", "file", "a", "b", "x", "age", "city", "top", "text[]", "?"]), st.sampled_from(PIECES)).map(
    lambda pair: b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (pair[0].encode(), pair[1])
)
FORMS = st.lists(PARTS, max_size=6).map(lambda parts: b"".join(parts) + b"--b--\r\n")
BODIES = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=12).map(b"".join) | FORMS
QUERIES = st.sampled_from(["", "?top=2", "?top=", "?top=%00", "?top=99999", "?x=%ff&top=1"])


@pytest.fixture(scope="module")
def api() -> Api:
    columns = (TensorSpec("age", "float32", ("N",)), TensorSpec("city", "string", ("N",)))
    plain = [
        version(name, model)
        for name, model in (
            ("numbers", tiny_models.identity()),
            ("two", tiny_models.add_two()),
            ("echo", tiny_models.identity("string", ("N", 1))),
        )
    ]
    return Api(ReadingPlane(reader("image"), reader("audio"), reader("text"), table(*columns), *plain), Limits(max_image_pixels=1_000_000))


def has_one_fair_answer(api: Api, model: str, media: str, query: str, body: bytes) -> None:
    answer = api.ask("POST", f"/models/{model}/predict{query}", body, {"Content-Type": media})

    assert answer.status < 500, answer.body
    said = json.loads(answer.body)
    assert answer.status == 200 or set(said["error"]) == {"code", "message", "field", "request_id"}
    assert answer.status == 200 or len(answer.body) <= 2048


CALLS = given(st.sampled_from(MODELS), st.sampled_from(MEDIA), QUERIES, BODIES)
_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=400, deadline=None, suppress_health_check=_SHARED)
@CALLS
def test_every_request_gets_one_fair_answer(api: Api, model: str, media: str, query: str, body: bytes) -> None:
    has_one_fair_answer(api, model, media, query, body)


@pytest.mark.services
@settings(max_examples=8_000, deadline=None, database=None, suppress_health_check=_SHARED)
@CALLS
def test_every_request_gets_one_fair_answer_for_longer(api: Api, model: str, media: str, query: str, body: bytes) -> None:
    has_one_fair_answer(api, model, media, query, body)
