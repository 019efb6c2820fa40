"""When an answer still counts as the golden one: on the same CPU, on another, and for models that draw lots."""

from __future__ import annotations

import numpy as np
import pytest

from towline.core.golden import compare_golden
from towline.core.manifest import Bound

BOUND = {"y": Bound(absolute=0.01, relative=0.0)}
GOLDEN = np.array([[0.1, 0.7, 0.2]], np.float32)
NAN = np.array([[0.1, np.nan, 0.2]], np.float32)


def verdict(golden, got, *, bounds=BOUND, deterministic=True, same_cpu=True):
    return compare_golden({"y": np.asarray(golden)}, {"y": np.asarray(got)}, bounds, deterministic=deterministic, same_cpu=same_cpu)


@pytest.mark.parametrize(
    ("golden", "got", "same_cpu", "ok"),
    [
        (GOLDEN, GOLDEN, True, True),
        (GOLDEN, GOLDEN + np.float32(0.009), True, True),
        (GOLDEN, GOLDEN + np.float32(0.011), True, False),
        (GOLDEN, GOLDEN + np.float32(0.011), False, True),
        (GOLDEN, GOLDEN[:, ::-1] + np.float32([[0.0, 0, 1]]), False, False),
        (GOLDEN, GOLDEN.astype(np.float64), True, False),
        (GOLDEN, GOLDEN[0], True, False),
        (NAN, NAN, True, True),
        (NAN, GOLDEN, True, False),
        (GOLDEN, NAN, False, False),
        (np.float32([np.inf]), np.float32([-np.inf]), True, False),
        (np.array([1, 2]), np.array([1, 2]), False, True),
        (np.array([1, 2]), np.array([1, 3]), False, False),
        (np.array([True]), np.array([False]), True, False),
        (np.array([b"a"], object), np.array(["a"], object), True, True),
        (np.array([b"a"], object), np.array([b"b"], object), False, False),
        (np.float32([100.0]), np.float32([101.0]), False, True),
        (np.float32([100.0]), np.float32([110.0]), False, False),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), True, True),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), False, True),
        # A tie within the bound is no disagreement about top-1.
        (np.float32([[0.500, 0.501]]), np.float32([[0.501, 0.500]]), False, True),
    ],
)
def test_the_verdict_follows_the_table(golden, got, same_cpu, ok):
    assert verdict(golden, got, same_cpu=same_cpu).ok is ok


@pytest.mark.parametrize(
    ("got", "ok"),
    [(GOLDEN * 50, True), (NAN, False), (GOLDEN.astype(np.float64), False), (GOLDEN[0], False)],
)
def test_a_model_that_draws_lots_is_held_to_dtype_rank_and_finiteness(got, ok):
    assert verdict(GOLDEN, got, deterministic=False).ok is ok


def test_an_output_without_a_bound_must_be_exact():
    assert verdict(GOLDEN, GOLDEN, bounds={}).ok
    assert not verdict(GOLDEN, np.nextafter(GOLDEN, np.float32(1)), bounds={}).ok


def test_a_verdict_names_the_output_and_the_gap():
    assert verdict(GOLDEN, GOLDEN + np.float32(0.5)).why == "output 'y' differs by up to 0.5 where 0.01 is allowed"
    assert compare_golden({"y": GOLDEN}, {}, BOUND, deterministic=True, same_cpu=True).why == "output 'y' is missing"
