"""Between a user's values and what travels: everything that fits passes as it is, everything else is named."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import numpy as np
import pytest

from towline.core.errors import EngineError, Kind
from towline.core.manifest import TensorSpec
from towline.engines.handlers.values import arrays_of, body_of, joined, parsed

Y = TensorSpec("y", "float32", ("N", 2))
TEXT = TensorSpec("text", "string", ("N",))
COUNT = TensorSpec("count", "uint8", ("N",))


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"a": 1}, b'{"a":1}'),
        ("text", b'"text"'),
        (None, b"null"),
        (b"\x00raw", b"\x00raw"),
        (np.array([[1, 2]]), b"[[1,2]]"),
        ({"score": np.float32(0.5), "ok": np.bool_(True)}, b'{"score":0.5,"ok":true}'),
        (Point(1, datetime.date(2026, 1, 2)), b'{"x":1,"when":"2026-01-02"}'),
        (float("nan"), b"null"),
    ],
)
def test_what_a_handler_gives_is_written_as_json(value: Any, body: bytes) -> None:
    assert body_of(value, "application/json") == body


def test_text_is_text_where_no_json_was_promised() -> None:
    assert body_of("text", "text/plain") == b"text"


@pytest.mark.parametrize("value", [object(), {1: object()}, (x for x in range(3))])
def test_what_has_no_json_is_told_by_its_type(value: Any) -> None:
    with pytest.raises(EngineError, match=type(value).__name__) as caught:
        body_of(value, "application/json")

    assert caught.value.code == "HANDLER_BAD_OUTPUT"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}'])
def test_a_body_that_is_no_json_is_the_clients_fault(body: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        parsed(body)

    assert (caught.value.code, caught.value.kind) == ("INVALID_JSON", Kind.INVALID)


@pytest.mark.parametrize(
    "value",
    [
        np.ones((1, 2), np.float32),
        [[1.0, 1.0]],
        [[1, 1]],
        {"y": np.ones((1, 2), np.float32)},
        np.ones((2, 1), np.float32).T,
    ],
)
def test_arrays_and_lists_that_fit_are_taken(value: Any) -> None:
    (array,) = arrays_of(value, [Y])

    assert (array.dtype, array.tolist(), array.flags.c_contiguous) == (np.float32, [[1.0, 1.0]], True)


def test_several_outputs_come_by_name_or_in_order() -> None:
    named = arrays_of({"count": [1, 255], "text": ["a", b"b"]}, [TEXT, COUNT])
    in_order = arrays_of((["a", "b"], np.array([1, 255], np.uint8)), [TEXT, COUNT])

    for text, count in (named, in_order):
        assert text.tolist() == [b"a", b"b"]
        assert (count.dtype, count.tolist()) == (np.uint8, [1, 255])


@pytest.mark.parametrize(
    ("value", "specs", "said"),
    [
        (np.ones((1, 2)), [Y], "as float64, its signature says float32"),
        (np.ones((1, 2), np.float16), [Y], "as float16"),
        (np.ones(2, np.float32), [Y], "shape [2], its signature says [N, 2]"),
        (np.ones((1, 3), np.float32), [Y], "shape [1, 3]"),
        ([[1, 2], [3]], [Y], "no array"),
        ("text", [Y], "'y'"),
        (None, [Y], "'y'"),
        ({"z": 1}, [Y], "gave the outputs 'z', its signature has 'y'"),
        ([256], [COUNT], "as int64, its signature says uint8"),
        ([-1], [COUNT], "as int64"),
        ([1.5], [COUNT], "as float64"),
        ([[True, False]], [Y], "as bool"),
        ([["1", "2"]], [Y], "as <U1"),
        ([1], [TEXT], "gave a int in output 'text', expected strings"),
        (7, [TEXT, COUNT], "gave a int, expected a dict with the outputs 'text', 'count'"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, specs: list[TensorSpec], said: str) -> None:
    with pytest.raises(EngineError) as caught:
        arrays_of(value, specs)

    assert caught.value.code == "HANDLER_BAD_OUTPUT"
    assert said in caught.value.message


def test_parts_are_joined_along_their_first_dim() -> None:
    whole = joined([[np.ones((1, 2), np.float32)], [np.zeros((2, 2), np.float32)]], [Y])

    assert whole[0].tolist() == [[1, 1], [0, 0], [0, 0]]
    assert joined([], [Y, TEXT])[0].shape == (0, 2)
    with pytest.raises(EngineError, match="do not fit together"):
        joined([[np.ones((1, 2))], [np.ones((1, 3))]], [Y])
