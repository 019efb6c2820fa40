"""One row of numbers, which is packed and not put into an array by numpy: the same bytes, and the same refusals."""

from __future__ import annotations

import numpy as np
import pytest
from test_round_trips import LIMITS, served

from towline.core.errors import InvalidRequest
from towline.core.manifest import TensorSpec
from towline.serve.protocols.tfserving_body import codec_for

NUMBERS = {
    # A tie, the least there is, what rounds down to the largest, both zeros.
    "float32": ["0.1", "16777217", "1e-45", "3.40282356779733e38", "-0.0", "0"],
    "float64": ["0.1", "9007199254740993", "5e-324", "1.7976931348623157e308", "-0.0", "0"],
    "int32": ["0", "1", "-1", "2147483647", "-2147483648", "7"],
    "int64": ["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "7"],
    # Of rules that `struct` does not keep.
    "float16": ["0.1", "2049", "6e-8", "65504", "-0.0", "0"],
    "uint64": ["0", "1", "2", "18446744073709551615", "3", "7"],
    "uint8": ["0", "1", "2", "255", "3", "7"],
}


@pytest.mark.parametrize("dtype", NUMBERS)
def test_a_row_alone_has_the_bytes_that_it_has_among_others(dtype: str) -> None:
    codec = codec_for(served(TensorSpec("x", dtype, ("N", 6))), LIMITS)
    row = f"[{', '.join(NUMBERS[dtype])}]"

    alone, form = codec.decode(f'{{"instances": [{row}]}}'.encode())
    among, among_form = codec.decode(f'{{"instances": [{row}, {row}]}}'.encode())

    mine, theirs = alone.inputs["x"], among.inputs["x"]
    assert (alone.rows, mine.shape, mine.dtype, form) == (1, (1, 6), theirs.dtype, among_form)
    assert mine.tobytes() == theirs[:1].tobytes()
    assert mine.flags.c_contiguous
    assert mine.flags.writeable


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("[1, 2]", "SHAPE_MISMATCH"),
        ("[1, 2, 3, 4]", "SHAPE_MISMATCH"),
        ("[]", "SHAPE_MISMATCH"),
        ("[1, 2, 1e39]", "OUT_OF_RANGE"),
        ('[1, 2, "3"]', "WRONG_TYPE"),
    ],
)
def test_a_row_that_is_none_of_the_model_is_refused_as_ever(row: str, code: str) -> None:
    codec = codec_for(served(TensorSpec("x", "float32", ("N", 3))), LIMITS)

    with pytest.raises(InvalidRequest) as refused:
        codec.decode(f'{{"instances": [{row}]}}'.encode())

    assert refused.value.code == code


def test_what_is_larger_than_a_row_of_numbers_is_left_to_numpy() -> None:
    images = codec_for(served(TensorSpec("x", "float32", ("N", 1, 2))), LIMITS)

    request, _ = images.decode(b'{"instances": [[[1, 2]]]}')

    assert request.inputs["x"].tolist() == [[[1.0, 2.0]]]
    assert request.inputs["x"].dtype == np.float32
