"""Large JSON read by simdjson: the answers and the errors of the other decoders, whatever the body."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_round_trips import served

from towline.core.errors import TowlineError
from towline.core.manifest import TensorSpec
from towline.serve.codecs import numbers
from towline.serve.codecs.check import Limits
from towline.serve.codecs.numbers import FloatReader
from towline.serve.protocols import openinference_request, tfserving_body

LIMITS = Limits(max_batch=1 << 20)
X = TensorSpec("x", "float32", ("N", 3))
# Numbers as clients write them, and at every edge of a type.
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(["-0", "0.0", "-0.0", "1E5", "1e-400", "3.4028235677973366e38", "3.4028235677973365e38", "65519.99", "65520", "1e400"]),
)
# What is no number, or not where it stands.
NOISE = st.sampled_from(
    ["", "01", "1.", ".5", "+1", "--1", "1 2", "1-2", "null", "true", "NaN", "Infinity", '"1"', "[1]", "{}", "1e", "0x1"]
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Mostly a plain body of three numbers a row; sometimes bent in one or two places."""
    rows = [[draw(NUMBERS) for _ in range(3)] for _ in range(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(0, 2))):
        row = draw(st.sampled_from(rows))
        match draw(st.sampled_from(["noise", "longer", "shorter", "row"])):
            case "noise" if row:
                row[draw(st.integers(0, len(row) - 1))] = draw(NOISE)
            case "longer":
                row.append(draw(NUMBERS))
            case "shorter" if row:
                row.pop()
            case "row":
                rows.append([])
    space = draw(st.sampled_from(["", " ", "\n\t", "\r\n", "\v"]))
    text = f",{space}".join(f"[{space}{','.join(row)}]" for row in rows)
    key = draw(st.sampled_from(["instances", "instances", "instances", "inst1ances", "instancs", "inputs", "instances "]))
    before, after = draw(st.sampled_from([("", ""), ("", " "), ("\ufeff", ""), ("", "]"), ("", "\0"), (" ", ",")]))
    return f'{before}{{{space}"{key}":{space}[{text}]}}{after}'.encode()


def outcome(decode: Any, body: bytes) -> tuple[str, Any, Any]:
    """What a decoder gives or refuses, in a form that compares."""
    try:
        request, is_row = decode(body)
    except TowlineError as error:
        return "refused", error.code, error.message
    (array,) = request.inputs.values()
    return "taken", is_row, (array.dtype, array.shape, array.tobytes(), request.rows)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=bodies())
def test_it_gives_what_the_other_decoders_give_or_leaves_it_to_them(dtype: str, body: bytes) -> None:
    spec = TensorSpec("x", dtype, ("N", 3))
    quick = tfserving_body.codec_for(served(spec), LIMITS)
    plain = tfserving_body.PredictCodec(served(spec), LIMITS, "")
    plain._floats = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "MIN_BYTES", 0)
        got = outcome(quick.decode, body)

    assert got == outcome(plain.decode, body)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b'{"instances":[[1,2,3],[4,5,6]]}', 2),
        (b'  { "instances" : [ [1e0, 2.0,3 ] ] }\n', 1),
        (b'{"instances":[[1,2,3],[4,5]]}', None),
        (b'{"instances":[[1,2],[3,4,5,6]]}', None),
        (b'{"instances":[[1,2,3],[]]}', None),
        (b'{"instances":[1,2,3]}', None),
        (b'{"instances":[]}', None),
        (b'{"instances":[[1,2,3]],"instances":[[1,2,3]]}', None),
        (b'{"instances":[[1,2,null]]}', None),
        (b'{"instances":[[1,2,1e39]]}', None),
        (b'{"instances":[[1,2,36893488147419103232]]}', None),
        (b'\xef\xbb\xbf{"instances":[[1,2,3]]}', None),
        (b'{"inst1ances":[[1,2,3]]}', None),
        (b'{"instances":[[1,2,3]]', None),
    ],
)
def test_it_takes_plain_rows_and_declines_the_rest(body: bytes, rows: int | None) -> None:
    array = FloatReader(X, (3,), "instances").read(body)

    assert (None if array is None else array.shape) == (None if rows is None else (rows, 3))


def test_what_it_read_stays_when_it_reads_again() -> None:
    reader = FloatReader(TensorSpec("x", "float64", ("N", 3)), (3,), "instances")
    first = reader.read(b'{"instances":[[1,2,3]]}')
    reader.read(b'{"instances":[[7,8,9]]}')

    assert first is not None
    assert first.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("is_large", [True, False])
def test_large_bodies_take_this_way_and_small_ones_do_not(monkeypatch: pytest.MonkeyPatch, is_large: bool) -> None:
    rows = np.random.default_rng(0).random((200 if is_large else 2, 3)).round(6).tolist()
    taken: list[bool] = []
    read = FloatReader.read

    def watched(reader: FloatReader, body: bytes) -> np.ndarray | None:
        array = read(reader, body)
        taken.append(array is not None)
        return array

    monkeypatch.setattr(FloatReader, "read", watched)
    request, _ = tfserving_body.codec_for(served(X), LIMITS).decode(json.dumps({"instances": rows}).encode())
    item = {"name": "x", "datatype": "FP32", "shape": [len(rows), 3], "data": np.ravel(rows).tolist()}
    body = json.dumps({"inputs": [item]}).encode()
    asked = openinference_request.codec_for(served(X), LIMITS).decode(body, None, None, 0.0)

    assert taken == ([True, True] if is_large else [])
    np.testing.assert_array_equal(request.inputs["x"], np.array(rows, np.float32))
    np.testing.assert_array_equal(asked.request.inputs["x"], np.array(rows, np.float32))


def test_a_row_too_large_for_the_body_is_not_made_to_compare_with() -> None:
    huge = TensorSpec("x", "float32", ("N", 1 << 30))
    reader = FloatReader(huge, (1 << 30,), "instances")

    assert reader.read(b'{"instances":[[1,2,3]]}') is None
    assert "_row" not in vars(reader)
