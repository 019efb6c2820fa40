"""Rows of a whole batch written as JSON at once: each request gets what it would have got alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from towline.core.inference import Merged, Response
from towline.serve.codecs import json
from towline.serve.protocols import tfserving_answer
from towline.serve.protocols.tfserving_answer import Form

_SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)
_VALUES = st.one_of(
    arrays.arrays(np.float32, _SHAPES, elements=st.floats(width=32)),
    arrays.arrays(np.float64, _SHAPES),
    arrays.arrays(np.int64, _SHAPES),
    arrays.arrays(np.uint8, _SHAPES),
    arrays.arrays(np.bool_, _SHAPES),
)


@given(_VALUES, st.data())
def test_rows_cut_out_of_a_batch_read_as_if_written_alone(array: np.ndarray, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(array) - 1))
    stop = data.draw(st.integers(start + 1, len(array)))
    alone = Response({"y": array[start:stop]}, "m", 1)
    shared = Response({}, "m", 1, Merged({"y": array}), start, stop)

    assert tfserving_answer.encode(shared, Form.ROWS) == tfserving_answer.encode(alone, Form.ROWS)
    assert tfserving_answer.encode(shared, Form.COLUMNS) == tfserving_answer.encode(alone, Form.COLUMNS)


def test_a_batch_is_written_once_for_all_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    monkeypatch.setattr(json, "dumps", lambda value, plain=json.dumps: (written.append(value), plain(value))[1])
    merged = Merged({"y": np.arange(12, dtype=np.float32).reshape(4, 3)})

    bodies = [tfserving_answer.encode(Response({}, "m", 1, merged, row, row + 1), Form.ROWS) for row in range(4)]

    assert bodies[2] == b'{"predictions":[[6.0,7.0,8.0]]}'
    assert len(written) == 1


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.array([[np.nan], [1.0]], np.float32)},
        {"y": np.array([[b"a"], [b"b"]], dtype=object)},
        {"y": np.zeros((2, 0), np.float32)},
        {"y": np.zeros((2, 2000), np.float32)},
        {"y": np.zeros((2, 1)), "z": np.zeros((2, 1))},
    ],
    ids=["not finite", "strings", "empty rows", "large rows", "two outputs"],
)
def test_what_is_not_plain_is_left_to_each_request(outputs: dict[str, np.ndarray]) -> None:
    merged = Merged(outputs)

    assert json.rows_of(merged) is None
    assert json.rows_of(merged) is None


def test_outputs_of_a_shared_answer_are_its_own_rows() -> None:
    answer = Response({}, "m", 1, Merged({"y": np.arange(6).reshape(3, 2)}), 1, 3)

    assert answer.outputs["y"].tolist() == [[2, 3], [4, 5]]
