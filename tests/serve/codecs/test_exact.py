"""The exact parser is bounded, and says where the fault is in bytes."""

from __future__ import annotations

import pytest

from towline.core.errors import InvalidRequest, Kind
from towline.serve.codecs import exact


def test_a_body_of_too_many_values_is_not_looked_at_one_by_one() -> None:
    with pytest.raises(InvalidRequest) as caught:
        exact.parse(b"[" + b"0," * exact.MAX_TOKENS + b"0]")
    assert (caught.value.code, caught.value.kind) == ("NOT_PLAIN", Kind.TOO_LARGE)


def test_a_long_string_is_not_many_values() -> None:
    assert exact.parse(b'["' + b"a" * 20_000_000 + b'"]') == ["a" * 20_000_000]


@pytest.mark.parametrize(
    ("raw", "offset"),
    [(b'{"a" 1}', 5), ('{"é" 1}'.encode(), 6), (b'{"a": NaN}', 6), (b'{"NaN": "Infinity", "b": -Infinity}', 25), (b"1  2", 3)],
)
def test_an_offset_counts_bytes(raw: bytes, offset: int) -> None:
    with pytest.raises(InvalidRequest, match=f"at offset: {offset}$"):
        exact.parse(raw)


def test_no_number_of_thousands_of_digits_is_computed_in_a_long_body() -> None:
    """The square of 4,000 digits, 14,000 times, held up a server for two seconds."""
    body = b"[" + b",".join([b"1" * 401] * 1000) + b"]"

    with pytest.raises(InvalidRequest) as refused:
        exact.parse(body)
    assert refused.value.code == "OUT_OF_RANGE"
    assert exact.parse(b"[" + b",".join([b"1" * 309] * 1000) + b"]")[-1] == int("1" * 309)
