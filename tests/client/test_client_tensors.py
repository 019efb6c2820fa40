"""What may become an input, and what may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from towline.client.tensors import as_tensor, named_inputs
from towline.core.dtypes import BY_NAME
from towline.core.errors import InvalidRequest


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([[1, 2]], "float32", [[1.0, 2.0]]),
        (np.float64([0.5]), "float32", [0.5]),
        (np.int8([-3]), "int64", [-3]),
        ([255], "uint8", [255]),
        ([True], "bool", [True]),
        ([], "float32", []),
        (3.5, "float64", 3.5),
        ([float("nan"), float("inf")], "float32", "nan inf"),
    ],
)
def test_what_keeps_its_meaning_is_accepted(value: Any, dtype: str, expected: Any) -> None:
    got = as_tensor("x", value, BY_NAME[dtype])

    assert got.dtype == BY_NAME[dtype].numpy
    assert got.flags.c_contiguous
    if expected == "nan inf":
        assert np.isnan(got[0])
        assert np.isinf(got[1])
    else:
        assert got.tolist() == expected


@pytest.mark.parametrize(
    ("value", "dtype", "code"),
    [
        ([True], "float32", "WRONG_DTYPE"),
        ([1, True], "int64", "WRONG_DTYPE"),
        ([1.9], "int64", "WRONG_DTYPE"),
        ([1.0], "int64", "WRONG_DTYPE"),
        ([None], "float32", "WRONG_DTYPE"),
        (["1"], "float32", "WRONG_DTYPE"),
        ([1, "a"], "string", "WRONG_DTYPE"),
        ([1], "string", "WRONG_DTYPE"),
        ([1], "bool", "WRONG_DTYPE"),
        ([256], "uint8", "OUT_OF_RANGE"),
        ([-1], "uint64", "OUT_OF_RANGE"),
        ([2**63], "int64", "OUT_OF_RANGE"),
        ([1e39], "float32", "OUT_OF_RANGE"),
        ([2**70], "int64", "WRONG_DTYPE"),
        ([[1, 2], [3]], "float32", "RAGGED"),
        (np.array(["2020-01-01"], "M8[D]"), "int64", "WRONG_DTYPE"),
        (np.array([1j]), "float32", "WRONG_DTYPE"),
    ],
)
def test_what_would_change_its_meaning_is_refused_by_name(value: Any, dtype: str, code: str) -> None:
    with pytest.raises(InvalidRequest, match="'x'") as caught:
        as_tensor("x", value, BY_NAME[dtype])

    assert (caught.value.code, caught.value.field) == (code, "x")


@given(arrays.arrays(st.sampled_from([np.int8, np.int32, np.uint64, np.int64]), arrays.array_shapes(max_dims=3, max_side=4)))
def test_integers_survive_or_are_refused_never_wrapped(array: np.ndarray) -> None:
    for dtype in ("int8", "int32", "uint8", "int64", "uint64"):
        try:
            got = as_tensor("x", array, BY_NAME[dtype])
        except InvalidRequest:
            continue
        assert got.tolist() == array.tolist()


def test_big_endian_and_strided_arrays_become_plain_ones() -> None:
    odd = np.arange(6, dtype=">f4").reshape(2, 3).T

    got = as_tensor("x", odd, BY_NAME["float32"])

    assert got.flags.c_contiguous
    assert got.dtype.byteorder in "<="
    assert got.tolist() == odd.tolist()


def test_names_must_be_the_models_own() -> None:
    assert named_inputs([1], ["x"]) == {"x": [1]}
    assert list(named_inputs({"b": 1, "a": 2}, ["a", "b"])) == ["a", "b"]
    for inputs, code in (({"a": 1}, "MISSING_INPUT"), ({"a": 1, "b": 2, "c": 3}, "UNKNOWN_INPUT"), ([1], "INVALID_ARGUMENT")):
        with pytest.raises(InvalidRequest) as caught:
            named_inputs(inputs, ["a", "b"])
        assert caught.value.code == code
