"""Random inputs are legal, seeded, and unlike from row to row."""

from __future__ import annotations

import numpy as np
import pytest

from towline.core import dtypes
from towline.core.manifest import Signature, TensorSpec
from towline.verify import inputs
from towline.verify.inputs import Recipe, batch_symbol, from_sample, make, recipes, with_loud_rows


def signature(*specs: tuple[str, str, tuple | None]) -> Signature:
    return Signature(tuple(TensorSpec(*spec) for spec in specs), ())


@pytest.mark.parametrize("dtype", [dtype.name for dtype in dtypes.ALL])
def test_every_dtype_is_made_in_the_form_the_worker_takes(dtype):
    for recipe in recipes(signature(("x", dtype, ("N", 3)))):
        array = make(recipe, np.random.default_rng(0), rows=4)["x"]

        assert array.shape == (4, 3)
        assert array.dtype == dtypes.BY_NAME[dtype].numpy
        assert array.flags.c_contiguous
        if dtype == "string":
            assert all(isinstance(element, bytes) for element in array.reshape(-1))


def test_the_same_seed_makes_the_same():
    recipe = next(recipes(signature(("x", "float32", ("N", 3)), ("s", "string", ("N",)))))
    first, second = (make(recipe, np.random.default_rng(7), rows=5) for _ in range(2))

    assert first["x"].tobytes() == second["x"].tobytes()
    assert first["s"].tolist() == second["s"].tolist()


def test_one_symbol_has_one_size_everywhere():
    for recipe in recipes(signature(("a", "int64", ("N", "T")), ("b", "float32", ("N", "T", 4)), ("c", "bool", ("T",)))):
        made = make(recipe, np.random.default_rng(0), rows=1)
        assert made["a"].shape[1] == made["b"].shape[1] == made["c"].shape[0]


@pytest.mark.parametrize(
    ("specs", "symbol"),
    [
        ([("a", "bool", ("N",)), ("b", "bool", ("N", 2))], "N"),
        ([("a", "bool", ("N",)), ("b", "bool", ("M", 2))], ""),
        ([("a", "bool", (1,))], ""),
        ([("a", "bool", ())], ""),
        ([("a", "bool", None)], ""),
        ([], ""),
    ],
)
def test_the_batch_is_the_symbol_that_leads_every_input(specs, symbol):
    assert batch_symbol(signature(*specs)) == symbol


def test_values_grow_tamer_and_no_style_comes_twice():
    styles = [recipe.style.name for recipe in recipes(signature(("x", "float32", ("N",))))]
    assert styles == ["random values", "values between 0 and 1", "zeros"]

    styles = [recipe.style.name for recipe in recipes(signature(("x", "int64", ("N",))))]
    assert styles == ["random values", "integers of 0 and 1", "integers of 0", "integers of 1"]


def test_pictures_begin_large_enough_for_pooling():
    assert next(recipes(signature(("x", "float32", ("N", 3, "H", "W"))))).sizes == {"H": 64, "W": 64}
    assert next(recipes(signature(("x", "int64", ("N", "T"))))).sizes == {"T": 8}


def test_sizes_that_would_take_gigabytes_are_not_tried():
    wide = signature(("x", "float32", ("N", "A", "B", "C", "D")))

    assert {max(recipe.sizes.values()) for recipe in recipes(wide)} == {64, 32, 8, 1}


def test_an_unsigned_or_divisor_integer_is_never_negative_or_zero_at_first():
    recipe = next(recipes(signature(("x", "int32", ("N", 100)))))

    assert make(recipe, np.random.default_rng(0))["x"].min() >= 1


def test_a_sample_keeps_its_sizes_and_its_integers():
    tokens = signature(("ids", "int64", ("N", "T")))
    recipe = from_sample(tokens, {"ids": np.array([[5, 7, 11]])})
    made = make(recipe, np.random.default_rng(0), rows=6)["ids"]

    assert made.shape == (6, 3)
    assert set(made.reshape(-1).tolist()) <= {5, 7, 11}


def test_loud_rows_change_only_where_they_should():
    recipe = next(recipes(signature(("x", "bool", ("N",)))))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        batch = make(recipe, rng, rows=3)
        changed = with_loud_rows(recipe, batch, rng, [1])
        assert (changed["x"] != batch["x"]).tolist() == [False, True, False]


def test_loud_rows_are_much_larger_than_the_rest():
    recipe = next(recipes(signature(("x", "float32", ("N", 50)))))
    rng = np.random.default_rng(0)
    batch = make(recipe, rng, rows=2)

    assert np.abs(with_loud_rows(recipe, batch, rng, [1])["x"][1]).max() > 3 * np.abs(batch["x"]).max()


def test_a_recipe_of_one_value_cannot_make_unlike_rows():
    recipe = Recipe(signature(("x", "int64", ("N",))), {}, inputs.Style("integers of 0", "", "zeros"))
    rng = np.random.default_rng(0)
    batch = make(recipe, rng, rows=3)

    assert (with_loud_rows(recipe, batch, rng, [1])["x"] == batch["x"]).all()
