"""Inputs and outputs of somebody's own conversion are found under an exporter's names."""

from __future__ import annotations

import numpy as np

from towline.app.importing.naming import Names, matched_inputs, matched_outputs
from towline.core.manifest import Signature, TensorSpec


def signature(inputs: str, outputs: str, rank: int = 2) -> Signature:
    def specs(names: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, "float32", ("N", 3)[:rank]) for name in names.split())

    return Signature(specs(inputs), specs(outputs))


def test_inputs_are_found_by_name_then_by_what_a_name_holds_then_in_order():
    assert matched_inputs(signature("a b", "y"), signature("b a", "y")) == {"a": "a", "b": "b"}
    assert matched_inputs(signature("ids mask", "y"), signature("serving_default_mask:0 serving_default_ids:0", "y")) == {
        "ids": "serving_default_ids:0",
        "mask": "serving_default_mask:0",
    }
    assert matched_inputs(signature("x", "y"), signature("input.1", "y")) == {"x": "input.1"}


def test_inputs_of_another_number_or_rank_are_not():
    assert matched_inputs(signature("a b", "y"), signature("a", "y")) is None
    assert matched_inputs(signature("a", "y"), signature("b", "y", rank=1)) is None


def test_outputs_are_found_by_what_they_answer():
    one, other = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)

    found = matched_outputs(signature("x", "p q"), signature("x", "0 1"), {"p": one, "q": other}, {"0": other, "1": one + 1e-3})

    assert found == {"p": "1", "q": "0"}
    assert Names({"x": "x"}, found).answer({"0": other, "1": one})["p"] is one
    assert matched_outputs(signature("x", "p"), signature("x", "0"), {"p": one}, {"0": np.ones(3, np.float32)}) is None
