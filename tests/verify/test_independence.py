"""The pure decisions behind batchability and golden bounds, as tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from towline.core.manifest import Bound
from towline.verify.independence import Gaps, bound_for, gap_between, is_deterministic, next_power_of_two, why_dependent

INF = math.inf


@pytest.mark.parametrize(
    ("gap", "independent"),
    [
        (Gaps("y", "float32", scale=1.0), True),
        # Rounding between batch sizes.
        (Gaps("y", "float32", scale=1.0, size=1e-6), True),
        (Gaps("y", "float32", scale=100.0, size=1e-3), True),
        # One step of an 8-bit activation tipped over.
        (Gaps("y", "float32", scale=1.0, size=2**-8), True),
        (Gaps("y", "float16", scale=1.0, size=2**-6), True),
        # The size of the batch matters.
        (Gaps("y", "float32", scale=1.0, size=0.1), False),
        (Gaps("y", "float32", scale=1.0, size=INF), False),
        # The same size, other mates: the least change is dependence.
        (Gaps("y", "float32", scale=1.0, mates=1e-7), False),
        (Gaps("y", "float32", scale=1.0, mates=INF), False),
        # Unless plain repeats tremble as much.
        (Gaps("y", "float32", scale=1.0, repeats=1e-7, mates=2e-7), True),
        (Gaps("y", "float32", scale=1.0, repeats=1e-7, mates=9e-7), False),
        (Gaps("y", "float32", scale=1.0, repeats=0.5, mates=0.5), False),
        # What is no float is exact.
        (Gaps("y", "int64"), True),
        (Gaps("y", "int64", size=INF), False),
        (Gaps("y", "string", mates=INF), False),
        (Gaps("y", "bool", repeats=INF), False),
        # An output that is all zeros has no range to hide a gap in.
        (Gaps("y", "float32", scale=0.0, size=1e-9), False),
    ],
)
def test_rows_are_independent_as_the_table_says(gap, independent):
    assert (why_dependent([Gaps("other", "float32", scale=1.0), gap]) == "") is independent


def test_the_reason_names_the_output_and_the_extent():
    assert why_dependent([Gaps("y", "float32", scale=2.0, mates=0.5)]) == (
        "a row of output 'y' changes with the other rows of its batch, by up to 25 % of its range"
    )


@pytest.mark.parametrize(
    ("gap", "deterministic"),
    [
        (Gaps("y", "float32", scale=1.0, repeats=1e-6), True),
        (Gaps("y", "float32", scale=1.0, repeats=0.1), False),
        (Gaps("y", "int64", repeats=INF), False),
    ],
)
def test_rounding_is_no_lottery(gap, deterministic):
    assert is_deterministic([gap]) is deterministic


@pytest.mark.parametrize(
    ("first", "second", "gap"),
    [
        (np.float32([1, 2]), np.float32([1, 2.5]), 0.5),
        (np.float32([np.nan]), np.float32([np.nan]), 0.0),
        (np.float32([np.nan, 1]), np.float32([np.nan, 3]), 2.0),
        (np.float32([np.nan]), np.float32([1]), INF),
        (np.float32([np.inf]), np.float32([-np.inf]), INF),
        (np.float32([1]), np.float32([[1]]), INF),
        (np.float32([1]), np.float64([1]), INF),
        (np.array([1]), np.array([2]), INF),
        (np.array([b"a"], object), np.array([b"a"], object), 0.0),
        (np.array([b"a"], object), np.array([b"b"], object), INF),
    ],
)
def test_the_gap_between_two_answers(first, second, gap):
    assert gap_between(first, second) == gap


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (Gaps("y", "float32", scale=1.0), Bound(2.0**-16, 2.0**-16)),
        # Spread 2^-10 with a margin of four.
        (Gaps("y", "float32", scale=1.0, size=2.0**-10), Bound(2.0**-8, 2.0**-16)),
        # A spread that trembles gives the same bound.
        (Gaps("y", "float32", scale=1.0, size=2.0**-10 * 0.9), Bound(2.0**-8, 2.0**-16)),
        (Gaps("y", "float32", scale=1.0, size=INF), Bound(2.0**-16, 2.0**-16)),
        (Gaps("y", "float16", scale=1.0), Bound(2.0**-8, 2.0**-8)),
        (Gaps("y", "int64"), Bound(0.0, 0.0)),
    ],
)
def test_bounds_are_powers_of_two_over_a_floor(gap, expected):
    assert bound_for(gap, np.ones(3, np.float32)) == expected


def test_a_bound_grows_with_the_answer_and_is_never_zero_for_floats():
    gap = Gaps("y", "float32", scale=1.0)

    assert bound_for(gap, np.float32([1000.0])).absolute == 1024 * 2.0**-16
    assert bound_for(gap, np.zeros(3, np.float32)).absolute > 0


def test_the_next_power_of_two():
    assert [next_power_of_two(value) for value in (0.3, 0.5, 3.0)] == [0.5, 0.5, 4.0]
