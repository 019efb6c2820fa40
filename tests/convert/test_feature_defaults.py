"""What a source says stands for a missing feature is kept where it fills a row of that input, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from towline.convert.feature_defaults import held_defaults, plain_values
from towline.core.manifest import Signature, TensorSpec


def held(spec: TensorSpec, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    found = held_defaults({"serving_default": {"x": values, "stranger": (1.0,)}}, {"serving_default": Signature((spec,), ())})
    return found.get("serving_default", {}).get("x")


def test_odd_numbers_go_by_name_and_bytes_as_text() -> None:
    assert plain_values([1, 0.5, float("nan"), float("-inf"), "é".encode()]) == (1, 0.5, "nan", "-inf", "é")
    with pytest.raises(UnicodeDecodeError):
        plain_values([b"\xff"])


@pytest.mark.parametrize(
    ("dtype", "shape", "values", "fits"),
    [
        ("float32", ("N", 2), (0.5, "nan"), True),
        ("float32", ("N", 1, 2), (0.5, 1), True),
        ("float32", ("N",), (0.5,), True),
        ("float32", ("N", 2), (0.5,), False),
        ("float32", ("N", "L"), (0.5,), False),
        ("float32", (), (0.5,), False),
        ("float32", None, (0.5,), False),
        ("float32", ("N", 0), (), False),
        ("float32", ("N", 1), ("much",), False),
        ("float32", ("N", 5000), (0.0,) * 5000, False),
        ("int64", ("N", 1), (-(2**63),), True),
        ("int64", ("N", 1), (2**63,), False),
        ("int64", ("N", 1), (0.5,), False),
        ("int64", ("N", 1), (True,), False),
        ("int32", ("N", 1), (1,), False),
        ("string", ("N", 1), ("nan",), True),
        ("string", ("N", 1), (1,), False),
        ("string", ("N", 1), ("\udcff",), False),
    ],
)
def test_a_default_is_kept_where_it_fills_a_row(dtype: str, shape: Any, values: tuple[Any, ...], fits: bool) -> None:
    found = held(TensorSpec("x", dtype, shape), values)

    assert found == (values if fits else None)
    if fits:
        # As a manifest has it.
        assert msgspec.json.decode(json.dumps(found), type=tuple[int | float | str, ...]) == values
