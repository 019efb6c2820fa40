"""TF Serving's own first example: numbers in, for an input of one number a row, and numbers out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_round_trips import LIMITS, served

from towline.core.errors import InvalidRequest
from towline.core.inference import Merged, Response
from towline.core.manifest import TensorSpec
from towline.serve.codecs.check import Limits
from towline.serve.protocols.tfserving_answer import Form, encode
from towline.serve.protocols.tfserving_body import codec_for

X = TensorSpec("x", "float32", ("N", 1))
FIRST_EXAMPLE = b'{"instances": [1.0, 2.0, 5.0]}'


@pytest.mark.parametrize("body", [FIRST_EXAMPLE, b'{"signature_name": "serving_default", "instances": [1, 2, 5]}'])
def test_numbers_are_rows_of_one(body: bytes) -> None:
    request, form = codec_for(served(X), LIMITS).decode(body)

    assert (request.inputs["x"].tolist(), request.inputs["x"].dtype, request.rows, form) == ([[1], [2], [5]], np.float32, 3, Form.NUMBERS)


def test_who_asks_in_numbers_is_answered_in_numbers() -> None:
    out = np.array([[2.5], [3.0], [4.5]], np.float32)

    assert json.loads(encode(Response({"y": out}, "m", 1), Form.NUMBERS)) == {"predictions": [2.5, 3.0, 4.5]}
    assert json.loads(encode(Response({}, "m", 1, Merged({"y": out}), 1, 3), Form.NUMBERS)) == {"predictions": [3.0, 4.5]}
    assert json.loads(encode(Response({"y": out}, "m", 1), Form.ROWS)) == {"predictions": [[2.5], [3.0], [4.5]]}


def test_only_what_is_one_number_a_row_is_answered_so() -> None:
    wide = np.array([[1, 2], [3, 4]], np.float32)

    assert json.loads(encode(Response({"y": wide}, "m", 1), Form.NUMBERS)) == {"predictions": [[1, 2], [3, 4]]}


@pytest.mark.parametrize(
    ("spec", "body"),
    [
        (TensorSpec("x", "float32", ("N", 2)), FIRST_EXAMPLE),
        (TensorSpec("x", "float32", ("N", 1, 1)), FIRST_EXAMPLE),
        (X, b'{"instances": [1.0, [2.0]]}'),
        (X, b'{"instances": [[1.0], 2.0]}'),
        (X, b'{"instances": [1.0, "2.0"]}'),
        (X, b'{"inputs": [1.0, 2.0]}'),
    ],
)
def test_numbers_stand_for_nothing_else(spec: TensorSpec, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        codec_for(served(spec), LIMITS).decode(body)


def test_as_many_numbers_are_taken_as_rows() -> None:
    with pytest.raises(InvalidRequest, match="3 rows; the limit is 2"):
        codec_for(served(X), Limits(max_batch=2)).decode(FIRST_EXAMPLE)
