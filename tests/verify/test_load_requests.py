"""Requests are written as each protocol wants them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from towline.core.manifest import Signature, TensorSpec
from towline.verify.load.requests import http_request, leads_with_batch, signature_of, simple, tf_serving, v2_binary, v2_json

X = np.array([[0.1, 2.0], [3.0, -4.5]], np.float32)
IDS = np.array([7, 8], np.int64)
TEXT = np.array([b"a", b"\xff"], dtype=object)


def test_a_message_is_whole() -> None:
    raw = http_request("/p", "h:1", b"{}", {"Content-Type": "application/json"})

    assert raw == b"POST /p HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def test_v2_in_json() -> None:
    found = json.loads(v2_json({"x": X, "ids": IDS}))

    assert found["inputs"] == [
        {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [0.1, 2.0, 3.0, -4.5]},
        {"name": "ids", "shape": [2], "datatype": "INT64", "data": [7, 8]},
    ]


def test_v2_in_binary() -> None:
    body, head_bytes = v2_binary({"x": X, "ids": IDS})
    head = json.loads(body[:head_bytes])

    assert [one["parameters"]["binary_data_size"] for one in head["inputs"]] == [16, 16]
    assert head["parameters"] == {"binary_data_output": True}
    assert body[head_bytes:] == X.tobytes() + IDS.tobytes()


@pytest.mark.parametrize(
    ("tensors", "is_batch", "expected"),
    [
        ({"x": X}, True, {"instances": [[0.1, 2.0], [3.0, -4.5]]}),
        ({"x": X, "ids": IDS}, True, {"instances": [{"x": [0.1, 2.0], "ids": 7}, {"x": [3.0, -4.5], "ids": 8}]}),
        ({"x": X}, False, {"inputs": [[0.1, 2.0], [3.0, -4.5]]}),
        ({"x": X, "ids": IDS}, False, {"inputs": {"x": [[0.1, 2.0], [3.0, -4.5]], "ids": [7, 8]}}),
        ({"t": TEXT}, True, {"instances": ["a", {"b64": "/w=="}]}),
    ],
)
def test_tf_serving(tensors: dict[str, np.ndarray], is_batch: bool, expected: object) -> None:
    assert json.loads(tf_serving(tensors, is_batch=is_batch)) == expected


def test_plain_predict() -> None:
    assert json.loads(simple({"x": IDS})) == {"input": [7, 8]}
    assert json.loads(simple({"x": IDS, "y": IDS})) == {"input": {"x": [7, 8], "y": [7, 8]}}


def test_a_signature_as_servers_tell_it() -> None:
    both = signature_of([("x", "float32", (-1, 3, -1)), ("y", "int64", (-1,))])

    assert both == Signature((TensorSpec("x", "float32", ("batch", 3, "x[2]")), TensorSpec("y", "int64", ("batch",))), ())
    assert leads_with_batch(both)
    assert not leads_with_batch(signature_of([("x", "float32", (-1, 3)), ("y", "int64", ())]))
