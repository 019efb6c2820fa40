"""Shapes are checked against the signature before anything is allocated."""

from __future__ import annotations

import pytest

from towline.core.errors import InvalidRequest
from towline.core.manifest import Signature, TensorSpec
from towline.serve.codecs.check import InputCheck, Limits, check_names, element_count


def check(*shapes: tuple[int | str, ...] | None, max_batch: int = 4) -> InputCheck:
    specs = tuple(TensorSpec(f"x{index}", "float32", shape) for index, shape in enumerate(shapes))
    return InputCheck(Signature(specs, ()), Limits(max_batch=max_batch))


def fields(count: int) -> list[str]:
    return [f"f{index}" for index in range(count)]


@pytest.mark.parametrize(
    ("specs", "shapes", "rows"),
    [
        ([("N", 3)], [(2, 3)], 2),
        ([("N", "L")], [(2, 0)], 2),
        ([("N", "N")], [(2, 2)], 2),
        ([("N", 3), ("N", "L")], [(2, 3), (2, 9)], 2),
        # No leading symbol that all inputs share: no batch dim.
        ([(1, 3)], [(1, 3)], 1),
        ([()], [()], 1),
        ([("N", 3), ("M", 3)], [(9, 3), (8, 3)], 1),
        ([("N", 3), (5,)], [(9, 3), (5,)], 1),
        ([None], [(7, 7, 7)], 1),
    ],
)
def test_shapes_that_fit_give_the_rows(specs: list[object], shapes: list[tuple[int, ...]], rows: int) -> None:
    assert check(*specs).rows(shapes, fields(len(shapes))) == rows  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("specs", "shapes", "code", "field"),
    [
        ([("N", 3)], [(2, 4)], "SHAPE_MISMATCH", "f0"),
        ([("N", 3)], [(2,)], "SHAPE_MISMATCH", "f0"),
        ([("N",)], [()], "SHAPE_MISMATCH", "f0"),
        ([("N", 3)], [(0, 3)], "EMPTY_BATCH", "f0"),
        ([("N", 3)], [(5, 3)], "BATCH_TOO_LARGE", "f0"),
        ([("N", "L")], [(5, 3)], "BATCH_TOO_LARGE", "f0"),
        ([("N", "N")], [(2, 3)], "DIM_MISMATCH", "f0"),
        ([("N", 3), ("N", 3)], [(2, 3), (1, 3)], "DIM_MISMATCH", "f1"),
        ([("N", "L"), ("M", "L")], [(2, 3), (2, 4)], "DIM_MISMATCH", "f1"),
        ([("N", "L")], [(1, 2**31)], "SHAPE_MISMATCH", "f0[1]"),
        ([None], [(1,) * 17], "SHAPE_MISMATCH", "f0"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_field(specs: list[object], shapes: list[tuple[int, ...]], code: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(*specs).rows(shapes, fields(len(shapes)))  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.field) == (code, field)


def test_a_product_of_dims_does_not_overflow() -> None:
    assert element_count((2**31 - 1,) * 4) == (2**31 - 1) ** 4


def test_an_error_about_many_names_stays_short() -> None:
    signature = Signature(tuple(TensorSpec("n" * 200 + str(index), "float32", ()) for index in range(100)), ())
    with pytest.raises(InvalidRequest) as caught:
        check_names([], signature, "inputs")
    assert len(caught.value.message) < 1300
