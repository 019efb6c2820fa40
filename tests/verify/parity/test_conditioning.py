"""Where rounding the input moves the source itself, a conversion is held to no less; everywhere else nothing is forgiven."""

from __future__ import annotations

import numpy as np
import pytest

from towline.core.manifest import Signature, TensorSpec
from towline.verify.parity.compare import judge
from towline.verify.parity.conditioning import MARGIN, NUDGE, movement, nudged
from towline.verify.parity.tolerance import tolerance_for

SIGNATURE = Signature((TensorSpec("x", "float32", ("N",)),), (TensorSpec("y", "float32", ("N",)),))
TOLERANCE = tolerance_for(SIGNATURE)


def cancelling(x: np.ndarray) -> np.ndarray:
    """Loses all digits where x is next to 1."""
    return ((x - np.float32(1)) * np.float32(1e7)).astype(np.float32)


def test_a_nudge_moves_floats_by_at_most_its_share_and_nothing_else():
    request = {"x": np.float32([1, -2, 0, 1e30]), "n": np.int64([1, 2]), "s": np.array([b"a"], dtype=object)}

    moved = nudged(request, seed=0)

    assert moved["x"].dtype == np.float32
    assert np.all(np.abs(moved["x"] - request["x"]) <= 1.5 * NUDGE * np.abs(request["x"]))
    assert moved["x"][2] == 0
    assert moved["n"] is request["n"]
    assert moved["s"] is request["s"]
    assert not np.array_equal(moved["x"], nudged(request, seed=1)["x"])


def test_an_answer_that_loses_its_digits_moves_and_a_steady_one_hardly_does():
    x = np.linspace(0.999, 1.001, 64, dtype=np.float32)
    request = {"x": x}

    steady = movement({"y": 2 * x}, [{"y": 2 * nudged(request, seed=0)["x"]}])["y"]
    losing = movement({"y": cancelling(x)}, [{"y": cancelling(nudged(request, seed=0)["x"])}])["y"]

    assert steady <= MARGIN * 2 * NUDGE * 1.1
    assert losing > 1


def test_what_rounding_explains_passes_only_with_that_allowance():
    x = np.linspace(0.999, 1.001, 64, dtype=np.float32)
    source, conversion = cancelling(x), cancelling(nudged({"x": x}, seed=9)["x"])
    pairs = [({"x": x}, {"y": source}, {"y": conversion})]
    moved = [movement({"y": source}, [{"y": cancelling(nudged({"x": x}, seed=seed)["x"])} for seed in (0, 1)])]

    assert not judge(pairs, TOLERANCE).passed
    assert judge(pairs, TOLERANCE, moved).passed


def test_an_allowance_for_one_request_excuses_no_other():
    pairs = [({"x": np.ones(3, np.float32)}, {"y": np.ones(3, np.float32)}, {"y": np.full(3, 1.01, np.float32)})] * 2

    assert not judge(pairs, TOLERANCE, [{"y": 1.0}, {"y": 0.0}]).passed


def test_the_requests_beyond_the_limit_are_told_and_those_alone_are_asked_again():
    ones, off = np.ones(3, np.float32), np.full(3, 1.01, np.float32)
    pairs = [({"x": ones}, {"y": ones}, {"y": given}) for given in (ones, off, ones)]

    assert judge(pairs, TOLERANCE).beyond == {1}
    assert judge(pairs, TOLERANCE, [{}, {"y": 1.0}, {}]).passed


@pytest.mark.parametrize("answer", [np.int64([1, 2]), np.array([b"a"], dtype=object)])
def test_what_is_no_float_is_never_excused(answer: np.ndarray):
    assert movement({"y": answer}, [{"y": answer[::-1].copy()}])["y"] == 0


def test_silence_is_nudged_too():
    assert np.abs(nudged({"x": np.zeros(8, np.float32)}, seed=0)["x"]).max() > 0
