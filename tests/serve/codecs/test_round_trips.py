"""What is encoded decodes to the same arrays, for every dtype and shape; and no bytes whatever raise anything but our own errors."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.extra.numpy as arrays_of
import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from plane import Api, HonestPlane, OneVersion, version

from towline.core.dtypes import ALL, BY_NAME
from towline.core.errors import TowlineError
from towline.core.inference import Response
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.serve.codecs import binary, exact
from towline.serve.codecs.check import Limits
from towline.serve.protocols import (
    openinference_request,
    openinference_response,
    simple_answer,
    simple_body,
    tfserving_answer,
    tfserving_body,
)
from towline.serve.protocols.tfserving_answer import Form
from towline.testing import tiny_models

LIMITS = Limits(max_batch=1 << 20)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def served(*specs: TensorSpec) -> OneVersion:
    """A version that is never run: codecs need its signature only."""
    signature = Signature(specs, tuple(TensorSpec(f"{spec.name}_out", spec.dtype, spec.shape) for spec in specs))
    facts, measured = Facts(0, {}, {}), Measured("test", True, 0, 0, 1)
    manifest = Manifest(1, "none", "m", {"serving_default": signature}, True, Origin("onnx", ""), facts, measured)
    return OneVersion("m", 1, manifest, session=None)  # type: ignore[arg-type]


@st.composite
def tensors(draw: st.DrawFn, *, finite: bool = True) -> tuple[str, np.ndarray]:
    dtype = draw(st.sampled_from([dtype.name for dtype in ALL]))
    shape = draw(arrays_of.array_shapes(min_dims=1, max_dims=4, max_side=4))
    if dtype == "string":
        text = st.text().filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
        array = draw(arrays_of.arrays(np.dtype(object), shape, elements=text.map(str.encode)))
        return dtype, array
    elements = None
    if dtype.startswith("float"):
        width = {"float16": 16, "float32": 32, "float64": 64}[dtype]
        elements = st.floats(width=width, allow_nan=not finite, allow_infinity=not finite)  # type: ignore[call-overload]
    return dtype, draw(arrays_of.arrays(np.dtype(dtype), shape, elements=elements))


def symbols(array: np.ndarray) -> tuple[int | str, ...]:
    return ("N", *(f"D{index}" for index in range(1, array.ndim)))


def same(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype
    assert got.flags.c_contiguous


@QUICK
@given(tensors(finite=False))
def test_tf_serving_json_round_trips(drawn: tuple[str, np.ndarray]) -> None:
    dtype, array = drawn
    codec = tfserving_body.codec_for(served(TensorSpec("x", dtype, symbols(array))), LIMITS)
    for form, answered, asked in ((Form.ROWS, b"predictions", b"instances"), (Form.COLUMNS, b"outputs", b"inputs")):
        body = tfserving_answer.encode(Response({"y": array}, "m", 1), form)
        request, came = codec.decode(body.replace(answered, asked, 1))
        same(request.inputs["x"], array)
        assert (came, request.rows) == (form, array.shape[0])


@QUICK
@given(tensors(), tensors())
@example(("string", np.array([b"ends in zero\0"], dtype=object)), ("float32", np.zeros(1, np.float32)))
def test_tf_serving_json_of_two_inputs_round_trips(one: tuple[str, np.ndarray], two: tuple[str, np.ndarray]) -> None:
    rows = min(len(one[1]), len(two[1]))
    drawn = {"a": one[1][:rows], "b/é:0": two[1][:rows]}
    specs = [
        TensorSpec(name, dtype, (*("N",), *array.shape[1:])) for (name, array), dtype in zip(drawn.items(), (one[0], two[0]), strict=True)
    ]
    codec = tfserving_body.codec_for(served(*specs), LIMITS)
    for form, answered, asked in ((Form.ROWS, b"predictions", b"instances"), (Form.COLUMNS, b"outputs", b"inputs")):
        body = tfserving_answer.encode(Response(drawn, "m", 1), form)
        request, _ = codec.decode(body.replace(answered, asked, 1))
        for name, array in drawn.items():
            same(request.inputs[name], array)


@QUICK
@given(tensors())
def test_plain_json_round_trips(drawn: tuple[str, np.ndarray]) -> None:
    dtype, array = drawn
    codec = simple_body.codec_for(served(TensorSpec("x", dtype, symbols(array))), LIMITS)
    for is_item, sent in ((False, array), (True, array[:1])):
        body = simple_answer.encode(Response({"y": sent}, "m", 1), (), is_item=is_item)
        asked = codec.decode(body.replace(b"output", b"input", 1))
        same(asked.request.inputs["x"], sent)
        assert (asked.is_item, asked.is_plain) == (is_item, True)


@QUICK
@given(tensors(), st.booleans())
def test_open_inference_round_trips_in_json_and_in_binary(drawn: tuple[str, np.ndarray], as_binary: bool) -> None:
    dtype, array = drawn
    codec = openinference_request.codec_for(served(TensorSpec("x", dtype, symbols(array))), LIMITS)
    asked = openinference_request.Asked(_request(), (openinference_request.Wanted("x", as_binary),), True)
    answer = openinference_response.encode(Response({"x": array}, "m", 1), asked, (), has_batch=True, accept_encoding=None)
    length = dict(answer.headers).get(b"inference-header-content-length")
    head = answer.body[: int(length)] if length else answer.body
    body = json.dumps({"inputs": json.loads(head)["outputs"]}).encode()
    tail = answer.body[len(head) :]

    decoded = codec.decode(body + tail, str(len(body)).encode() if length else None, None, 0.0)

    same(decoded.request.inputs["x"], array)


def _request() -> Any:
    from towline.core.inference import Request

    return Request({})


@QUICK
@given(tensors(finite=False))
def test_binary_tensors_round_trip_bit_by_bit(drawn: tuple[str, np.ndarray]) -> None:
    dtype, array = drawn
    spec = TensorSpec("x", dtype, None)
    raw = binary.encode_tensor(array)

    got = binary.decode_tensor(memoryview(raw), spec, array.shape, "x", LIMITS)

    same(got, array)
    if dtype != "string":
        assert got.tobytes() == array.tobytes()
        # A big-endian array is turned round, a transposed one laid out anew.
        assert binary.encode_tensor(array.astype(array.dtype.newbyteorder(">"))) == raw
        assert binary.encode_tensor(np.asfortranarray(array)) == raw
        assert got.dtype == BY_NAME[dtype].numpy


FUZZED = Api(
    HonestPlane(
        version("m", tiny_models.identity()), version("two", tiny_models.add_two()), version("text", tiny_models.identity("string"))
    ),
    Limits(max_request_bytes=1 << 16),
)
SEEDS = (
    b'{"instances": [[1, 2], [3.5, -4e2]]}',
    b'{"signature_name": "serving_default", "inputs": {"a": [[1, 2]], "b": [[NaN, Infinity]]}}',
    b'{"instances": [{"a": [1, 2], "b": [true, null]}]}',
    b'{"instances": [["a\\u00e9", {"b64": "AAECAw=="}]]}',
    b'{"id": "1", "parameters": {"binary_data_output": true, "timeout": 5}, "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32",'
    b' "data": [1, 2]}], "outputs": [{"name": "y", "parameters": {"classification": 1}}]}',
    b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}}]}\1\0\0\0a\1\0\0\0b',
    b'{"input": {"a": [1, 2], "b": [[3, 4]]}}',
)
PIECES = (
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\ud800",
    b"null",
    b"NaN",
    b"1e999",
    b"-",
    b"9" * 30,
    b"\0",
    b"\xff",
    b"[" * 2000,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        until = draw(st.integers(at, min(len(body), at + 20)))
        body = body[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + body[until:]
    return body


HEADERS = st.fixed_dictionaries(
    {"Content-Type": st.just("application/json")},
    optional={
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "br", "identity", ""]) | st.text(max_size=4).map(ascii),
        "Inference-Header-Content-Length": st.integers(-1, 150).map(str) | st.text(max_size=4).map(ascii),
        "Accept-Encoding": st.sampled_from(["gzip", "deflate;q=0", "*", "gzip;q=x"]),
        "X-Request-Timeout-Ms": st.integers(-1, 10**9).map(str),
    },
)
TARGETS = ("/v1/models/{}:predict", "/v2/models/{}/infer", "/models/{}/predict")


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=64) | mutated(), HEADERS, st.sampled_from(TARGETS), st.sampled_from(["m", "two", "text"]))
@example(b'{"instances":[' + b"9" * 5000 + b"]}", {}, TARGETS[0], "m")
@example(b"[" * 5000, {"Content-Type": "application/json"}, TARGETS[1], "m")
def test_whatever_is_sent_is_answered_with_json_and_a_status_that_is_no_500(
    body: bytes, headers: dict[str, str], target: str, model: str
) -> None:
    answer = FUZZED.ask("POST", target.format(model), body, headers)

    assert answer.status in (200, 400, 413, 415, 422)
    if answer.status != 200:
        assert json.loads(answer.body)["error"]
        assert len(answer.body) <= 2048


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64) | mutated(), st.booleans(), st.booleans())
def test_the_exact_parser_raises_only_our_errors(raw: bytes, allow: bool, stop: bool) -> None:
    code, _ = parsed(raw, allow_non_finite=allow, stop_when_done=stop)

    assert code != "INTERNAL"


def parsed(raw: bytes, **how: bool) -> tuple[str, Any]:
    """The code of the refusal, or "" and the value."""
    try:
        return "", exact.parse(raw, **how)
    except TowlineError as error:
        return error.code, None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@QUICK
@given(JSON_VALUES)
def test_the_exact_parser_reads_what_the_standard_library_writes(value: Any) -> None:
    raw = json.dumps(value)

    code, found = parsed(raw.encode(), allow_non_finite=True)

    # Half a surrogate pair is no text, though Python can write it.
    assert code == "BAD_ENCODING" or json.dumps(found) == raw
