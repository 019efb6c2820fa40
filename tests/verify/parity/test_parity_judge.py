"""The judge: figures, verdicts and what a wrong conversion is said to look like."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from towline.core.errors import UsageError
from towline.core.manifest import Bound, Signature, TensorSpec
from towline.verify.parity.compare import Parity, Tolerance, judge, tolerance_for
from towline.verify.parity.tolerance import QUANTISED_SHARE, SHARES

RNG = np.random.default_rng(0)


def outputs(**dtypes: str) -> Signature:
    return Signature((), tuple(TensorSpec(name, dtype, None) for name, dtype in dtypes.items()))


def judged(reference: np.ndarray, candidate: np.ndarray, **options) -> Parity:
    dtype = "string" if reference.dtype == object else reference.dtype.name
    return judge([({}, {"y": reference}, {"y": candidate})], tolerance_for(outputs(y=dtype), **options))


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


# Tolerance


@pytest.mark.parametrize(("dtype", "share"), SHARES.items())
def test_an_error_below_the_dtypes_share_of_the_magnitude_passes_and_one_above_does_not(dtype, share):
    reference = np.array([[1.0, 0.001, -3.0]], dtype)

    assert judged(reference, reference + np.array([[0, 2.9 * share, 0]], dtype)).passed
    assert not judged(reference, reference + np.array([[0, 3.5 * share, 0]], dtype)).passed


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
def test_integers_are_exact(dtype):
    reference = np.array([0, 1, 1], dtype)

    assert judged(reference, reference.copy()).passed
    assert not judged(reference, np.array([0, 1, 0], dtype)).passed


def test_integers_that_float64_cannot_tell_apart_are_told_apart():
    assert not judged(np.array([2**63 - 1], np.int64), np.array([2**63 - 2], np.int64)).passed


def test_strings_are_exact_whether_bytes_or_text():
    words = np.array([b"cat", b"dog"], object)

    assert judged(words, np.array(["cat", "dog"], object)).passed
    parity = judged(words, np.array([b"cat", b"cow"], object))
    assert parity.because == "output 'y' differs in 1 of 2 elements and must be exact, in request 1 at [1]: 'cow' instead of 'dog'."


def test_a_quantised_graph_may_tip_over_one_step():
    scores, steps = np.array([[1.0, 0.5]], np.float32), np.array([100, 7], np.int8)

    assert judged(scores, scores + np.float32(0.9 * QUANTISED_SHARE), quantised=True).passed
    assert not judged(scores, scores + np.float32(1.1 * QUANTISED_SHARE), quantised=True).passed
    assert judged(steps, steps + np.int8(1), quantised=True).passed
    assert not judged(steps, steps + np.int8(2), quantised=True).passed
    assert not judged(np.array([3]), np.array([4]), quantised=True).passed


def test_a_tolerance_given_tightens():
    reference = np.array([2.0], np.float32)
    near = reference + np.float32(2e-5)

    assert judged(reference, near).passed
    assert judged(reference, near, tightened=2e-5).passed
    assert not judged(reference, near, tightened=5e-6).passed
    assert not judged(reference, np.nextafter(reference, np.float32(3)), tightened=0.0).passed
    assert judged(reference, reference.copy(), tightened=0.0).passed


@pytest.mark.parametrize("share", [1e-3, -1e-6, math.nan, math.inf])
def test_a_tolerance_that_would_loosen_is_refused(share):
    with pytest.raises(UsageError, match=r"--tolerance .* is not between 0 and 6\.1e-05"):
        tolerance_for(outputs(y="float32", n="int64"), tightened=share)


def test_a_tolerance_for_unlike_dtypes_tightens_only_those_that_are_looser():
    limits = tolerance_for(outputs(half="float16", double="float64", n="int64"), tightened=1e-4)

    assert limits.of("half").relative == 1e-4
    assert limits.of("double").relative == SHARES["float64"]
    assert limits.of("n") == Bound(absolute=0.0, relative=0.0)


def test_an_answer_next_to_zero_is_measured_against_what_is_usual_and_a_loud_one_excuses_no_quiet_one():
    loud, usual, quiet = (np.array([[scale, 0.0]], np.float32) for scale in (1000.0, 1.0, 1e-6))
    error = np.array([[0.0, 5e-5]], np.float32)
    limits = tolerance_for(outputs(y="float32"))

    def judged_with(erring: int) -> Parity:
        answers = [loud, usual, usual, quiet]
        return judge([({}, {"y": one}, {"y": one + error * (place == erring)}) for place, one in enumerate(answers)], limits)

    assert judged_with(3).passed
    assert not judge([({}, {"y": loud}, {"y": loud}), ({}, {"y": usual}, {"y": usual + 10 * error})], limits).passed


def test_rounding_beside_a_source_of_zeros_passes_and_more_does_not():
    zeros = np.zeros((1, 2), np.float32)

    assert judged(zeros, zeros + np.float32(1e-13)).passed
    assert not judged(zeros, zeros + np.float32(1e-9)).passed


def test_nan_and_infinity_must_stand_in_the_same_places():
    reference = np.array([np.nan, np.inf, -np.inf, 1], np.float32)

    assert judged(reference, reference.copy()).passed
    for place, value in ((0, 0.0), (1, -np.inf), (1, np.nan), (3, np.nan)):
        candidate = reference.copy()
        candidate[place] = value
        parity = judged(reference, candidate)
        assert not parity.passed
        assert f"has NaN or infinity in other places, in request 1 at [{place}]" in parity.because


# Figures


def test_figures_are_those_of_all_requests_together():
    limits = tolerance_for(outputs(y="float32"))
    pairs = [
        ({"x": np.array([1])}, {"y": np.array([[4.0, 0.0]], np.float32)}, {"y": np.array([[4.0, 1.0]], np.float32)}),
        ({"x": np.array([2])}, {"y": np.array([[0.0, 4.0]], np.float32)}, {"y": np.array([[2.0, 4.0]], np.float32)}),
        ({"x": np.array([3])}, {"y": np.array([[0.0, 4.0]], np.float32)}, {"y": np.array([[4.0, 0.0]], np.float32)}),
    ]

    parity = judge(pairs, limits)

    figures = parity.outputs["y"]
    assert (figures.max_absolute, figures.mean_absolute) == (4.0, 11 / 6)
    assert (figures.max_relative, figures.mean_relative) == (1.0, 11 / 24)
    assert figures.cosine == pytest.approx((16 + 16) / math.sqrt(48 * (17 + 20 + 16)))
    assert figures.top1 == 2 / 3
    assert (figures.sample, figures.place, figures.expected, figures.got) == (2, (0, 0), "0", "4")
    assert parity.worst["x"][0] == 3
    assert parity.worst_candidate["y"][0, 0] == 4.0
    assert parity.samples == 3
    assert figures.errors[0] == 2
    assert sum(figures.errors) == figures.elements == 6


def test_scores_that_tie_within_the_limit_are_no_other_top_1():
    reference = np.array([[1.0, 1.00001]], np.float32)

    assert judged(reference, np.array([[1.00001, 1.0]], np.float32)).outputs["y"].top1 == 1.0


def test_the_verdict_names_output_error_limit_and_place():
    reference = np.zeros((2, 3), np.float32)
    reference[0, 0] = 1.0
    candidate = reference.copy()
    candidate[1, 2] = 0.5

    because = judged(reference, candidate).because

    assert because == "output 'y' differs by up to 0.5 where 6.1e-05 is allowed, in request 1 at [1, 2]: 0.5 instead of 0."


def test_lines_are_for_people_and_json_has_no_infinity():
    parity = judge(
        [({}, {"y": floats(4, 10), "n": np.array([1])}, {"y": np.full((4, 10), np.nan, np.float32), "n": np.array([1])})],
        tolerance_for(outputs(y="float32", n="int64")),
    )

    assert parity.lines()[1] == "n: equal  (1 request, limit 0)"
    assert json.loads(json.dumps(parity.as_json(), allow_nan=False))["outputs"]["y"]["max_absolute"] is None
    good = judged(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    assert good.lines() == ["y: max |Δ| 0 · mean 0 · cosine 1.000000 · top-1 agreement 100 %  (1 request, limit 6.1e-05)"]


def test_evidence_stays_small_however_many_outputs_there_are():
    names = [f"{place:03}" + "x" * 200 for place in range(300)]
    answer = {name: floats(8, 64) for name in names}

    evidence = judge([({}, answer, answer)] * 3, tolerance_for(outputs(**dict.fromkeys(names, "float32")))).as_json()

    assert len(json.dumps(evidence)) < 128 << 10
    assert (len(evidence["outputs"]), evidence["left_out"]) == (64, 236)
    assert sum(bool(one["points"]) for one in evidence["outputs"].values()) == 8


# What a wrong conversion looks like


def softmax(array: np.ndarray) -> np.ndarray:
    powers = np.exp(array - array.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("reference", "wrong", "said"),
    [
        (softmax(floats(3, 4)), None, "a softmax were missing"),
        (floats(2, 3, 4, 5), lambda y: y.transpose(0, 2, 3, 1), "looks transposed: NCHW in the source, NHWC in the conversion"),
        (floats(2, 3, 4, 5), lambda y: y.transpose(0, 3, 1, 2), "looks transposed: NHWC in the source, NCHW in the conversion"),
        (floats(4, 4), lambda y: y.T, "looks transposed: its axes are in the order [1, 0]"),
        (floats(2, 6), lambda y: y.reshape(2, 2, 3), "holds the same values in another shape"),
        (floats(3, 4), softmax, "ended with a softmax that the source has not"),
        (np.maximum(floats(3, 4), 0), None, "a ReLU were missing"),
        (floats(3, 4), lambda y: 1 / (1 + np.exp(-y)), "ended with a sigmoid"),
        (floats(3, 4), lambda y: y / 255, "is 0.00392157 times what it should be"),
        (floats(3, 4), lambda y: -y, "is -1 times"),
        (floats(5, 4), lambda y: y + np.arange(4, dtype=np.float32), "off by the same amounts in every row"),
        (floats(3, 4), lambda y: floats(3, 4), None),
    ],
)
def test_a_wrong_conversion_is_told_by_what_it_looks_like(reference, wrong, said):
    if wrong is None:
        # The step that is missing has lost something: the conversion gives what was before it.
        before = np.log(reference) + 1 if "softmax" in said else np.where(reference > 0, reference, -1)
        candidate = before.astype(np.float32)
    else:
        candidate = np.ascontiguousarray(wrong(reference), np.float32)

    parity = judged(reference.astype(np.float32), candidate)

    assert not parity.passed
    assert ("Output 'y'" in parity.because) is (said is not None)
    assert (said or "") in parity.because


def test_outputs_in_another_order_are_told():
    first, second = floats(2, 3), floats(2, 3)
    limits = tolerance_for(outputs(a="float32", b="float32"))

    parity = judge([({}, {"a": first, "b": second}, {"a": second, "b": first})], limits)

    assert not parity.passed
    assert parity.because.endswith("The outputs look to be in another order: 'a' is given as 'b', 'b' is given as 'a'.")


def test_outputs_under_other_names_are_told_before_any_figure():
    answer = floats(2, 3)

    parity = judge([({}, {"logits": answer}, {"output_0": answer})], tolerance_for(outputs(logits="float32")))

    assert parity.because == (
        "the source gives the outputs 'logits', the conversion 'output_0'."
        " The answers are the same under other names: 'logits' is given as 'output_0'."
    )
    assert parity.outputs == {}


def test_of_two_equal_outputs_under_other_names_each_is_told_once():
    answer = floats(2, 3)
    limits = tolerance_for(outputs(a="float32", b="float32"))

    parity = judge([({}, {"a": answer, "b": answer}, {"a": answer, "c": answer})], limits)

    assert parity.because.endswith("The answers are the same under other names: 'b' is given as 'c'.")


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ({"y": np.zeros((2, 3), np.float64)}, "output 'y' is float32 in the source and float64 in the conversion"),
        ({"y": np.zeros((2, 4), np.float32)}, "output 'y' has shape [2, 3] in the source and [2, 4] in the conversion, in request 1"),
        ({}, "the source gives the outputs 'y', the conversion none"),
        ({"y": np.zeros((2, 3), np.float32), "z": np.zeros(1)}, "the source gives the outputs 'y', the conversion 'y', 'z'"),
    ],
)
def test_another_dtype_shape_or_output_is_told_before_any_figure(candidate, said):
    parity = judge([({}, {"y": floats(2, 3)}, candidate)], tolerance_for(outputs(y="float32")))

    assert not parity.passed
    assert parity.because.startswith(said + ".")


# For any arrays

ANY = arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=5, min_side=0), elements=st.floats(width=32))


@settings(max_examples=100, deadline=None)
@given(ANY)
def test_whatever_it_is_it_equals_itself(array):
    assert judged(array, array.copy(), tightened=0.0).passed


@settings(max_examples=200, deadline=None)
@given(ANY, ANY)
def test_two_answers_pass_only_if_every_element_is_within_the_limit(reference, candidate):
    limits = Tolerance({"y": Bound(absolute=1e-3, relative=0.0)})
    parity = judge([({}, {"y": reference}, {"y": candidate})], limits)

    expected = reference.shape == candidate.shape and np.allclose(
        reference.astype(np.float64), candidate.astype(np.float64), rtol=0, atol=1e-3, equal_nan=True
    )
    assert parity.passed == expected
    json.dumps(parity.as_json(), allow_nan=False)
    assert parity.passed == (parity.because == "")
