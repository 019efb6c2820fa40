"""Named columns become the matrix a model was trained on: filled, coded, standardised, in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from processed import load

from towline.core.errors import EngineError
from towline.testing import tiny_models

DECLARED = """
[[before]]
step = "tabular"
columns = ["age", "colour", "income"]

[[before]]
step = "fill"
column = "age"
number = 30

[[before]]
step = "fill"
column = "colour"
word = "green"

[[before]]
step = "category"
column = "colour"
values = ["red", "green", "blé"]

[[before]]
step = "standardise"
columns = ["income", "age"]
mean = [1000, 20]
std = [100, 10]
"""
MATRIX = tiny_models.identity("float32", ("N", 5))


def test_columns_are_filled_coded_standardised_and_kept_in_order(tmp_path: Path) -> None:
    table = load(tmp_path, MATRIX, DECLARED)

    got = table.run(income=[1100.0, 900.0, 1000.0], age=[40.0, np.nan, 20.0], colour=["red", "", "blé"])["y"]

    assert got.tolist() == [[2, 1, 0, 0, 1], [1, 0, 1, 0, -1], [0, 0, 0, 1, 0]]


def test_each_column_is_an_input_of_its_own_kind(tmp_path: Path) -> None:
    inputs = load(tmp_path, MATRIX, DECLARED).manifest.signature.inputs

    assert [(spec.name, spec.dtype, spec.shape) for spec in inputs] == [
        ("age", "float64", ("N",)),
        ("colour", "string", ("N",)),
        ("income", "float64", ("N",)),
    ]


def test_an_unknown_word_is_an_error_of_its_row(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^colour\[1\] is none of the 3 known values \('red', 'green', 'blé'\)\.$") as caught:
        load(tmp_path, MATRIX, DECLARED).run(income=[1.0, 1.0], age=[1.0, 1.0], colour=["red", "pink"])

    assert caught.value.code == "UNKNOWN_CATEGORY"


@pytest.mark.parametrize(("encode", "rows"), [("one_hot", [[0, 0], [0, 1]]), ("index", [[-1], [1]])])
def test_an_unknown_word_may_be_declared_to_be_nothing(tmp_path: Path, encode: str, rows: list) -> None:
    declared = f"""
[[before]]
step = "tabular"
columns = ["size"]

[[before]]
step = "category"
column = "size"
values = ["S", "M"]
unknown = "none"
encode = "{encode}"
"""
    table = load(tmp_path, tiny_models.identity("float32", ("N", len(rows[0]))), declared)

    assert table.run(size=["XXL", "M"])["y"].tolist() == rows


def test_a_missing_number_that_nothing_fills_stays_missing(tmp_path: Path) -> None:
    table = load(tmp_path, tiny_models.identity("float64", ("N", 1)), '[[before]]\nstep = "tabular"\ncolumns = ["age"]\n')

    assert np.isnan(table.run(age=[np.nan])["y"]).all()


def test_inputs_that_no_step_feeds_are_sent_as_they_are(tmp_path: Path) -> None:
    two = load(tmp_path, tiny_models.add_two(), '[[before]]\nstep = "tabular"\ncolumns = ["u", "v"]\ninto = "b"\n')

    got = two.run(u=[1.0], v=[2.0], a=np.array([[10, 20]], np.float32))["y"]

    assert got.tolist() == [[11, 22]]
