"""Which layers move the answers: what adds noise is blamed, what passes it on is not."""

from __future__ import annotations

import numpy as np
import pytest

from towline.verify.layers import LEAST_NOISE, Layer, Noise, decibels, guilty_layers

CHAIN = (
    Layer("first", "Conv", ("x", "w1"), "a"),
    Layer("act", "Relu", ("a",), "b"),
    Layer("second", "Conv", ("b", "w2"), "c"),
    Layer("sum", "Add", ("c", "a"), "d"),
    Layer("last", "Gemm", ("d", "w3"), "y"),
)


def test_the_layer_behind_which_noise_grows_most_is_the_guiltiest():
    found = guilty_layers(CHAIN, {"a": 1e-4, "b": 1e-4, "c": 1e-2, "d": 1e-2, "y": 1.1e-2})

    assert [one.name for one in found] == ["second", "last", "first"]
    assert (found[0].snr_db, found[0].before_db) == pytest.approx((20.0, 40.0))
    assert found[0].words() == "second (Conv): 20.0 dB over the noise, 40.0 dB before it"


def test_an_activation_that_halves_the_signal_is_put_down_to_the_product_before_it():
    found = guilty_layers(CHAIN, {"a": 1e-3, "b": 5e-3, "c": 5e-3, "d": 5e-3, "y": 5e-3})

    assert [one.name for one in found] == ["first"]
    assert found[0].snr_db == pytest.approx(decibels(5e-3))


def test_noise_is_carried_through_tensors_that_nobody_measured():
    found = guilty_layers(CHAIN, {"a": 1e-3, "y": 1e-3})

    assert [one.name for one in found] == ["first"]


def test_rounding_is_nobodys_fault_and_what_is_no_number_is_somebodys():
    assert guilty_layers(CHAIN, dict.fromkeys("abcdy", LEAST_NOISE / 2)) == ()
    assert [one.snr_db for one in guilty_layers(CHAIN, {"c": float("inf")})] == [-200.0]
    assert guilty_layers((), {}) == ()


def test_what_changed_a_graph_into_integers_is_blamed_by_its_own_operator():
    dynamic = (
        Layer("q", "DynamicQuantizeLinear", ("x",), "xq"),
        Layer("dot_quant", "MatMulInteger", ("xq", "wq"), "i"),
        Layer("cast", "Cast", ("i",), "f"),
        Layer("scale", "Mul", ("f", "s"), "y"),
    )

    assert [one.name for one in guilty_layers(dynamic, {"y": 1e-3})] == ["dot_quant"]


def test_noise_adds_up_over_rows_and_leaves_out_what_cannot_be_compared():
    noise = Noise()
    for value in (1.0, 3.0):
        first = {"a": np.float32([value]), "zeros": np.zeros(1, np.float32), "b": np.float32([1, 2]), "only": np.float32([1])}
        second = {"a": np.float32([value + 1]), "zeros": np.ones(1, np.float32), "b": np.float32([1]), "other": np.float32([1])}
        noise.add(first, second)

    assert noise.ratios() == {"a": pytest.approx(2 / 10)}


def test_answers_that_are_no_numbers_are_noise_without_end():
    noise = Noise()
    noise.add({"a": np.float32([1.0])}, {"a": np.float32([np.nan])})

    assert noise.ratios() == {"a": float("inf")}
