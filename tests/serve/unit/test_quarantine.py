"""Inputs that killed an engine are remembered by their bytes, a bounded number of them, for a bounded time."""

from __future__ import annotations

import numpy as np
import pytest

from towline.serve import quarantine
from towline.serve.quarantine import Quarantine, digest_of


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def inputs(value: int = 0, dtype: str = "int64", shape: tuple[int, ...] = (2,), name: str = "x") -> dict[str, np.ndarray]:
    return {name: np.full(shape, value, dtype)}


def test_it_holds_exactly_what_was_added() -> None:
    held = Quarantine(Clock())
    assert not held
    held.add(inputs(1))

    assert held
    assert held.holds(inputs(1))
    assert not held.holds(inputs(2))


@pytest.mark.parametrize(
    "other",
    [
        inputs(0, "int32", (4,)),
        inputs(0, "uint64"),
        inputs(0, shape=(1, 2)),
        inputs(0, shape=(2, 1)),
        inputs(0, name="y"),
        {**inputs(0), **inputs(0, name="y")},
        {"x": np.array([b"\0" * 8, b""], dtype=object)},
    ],
)
def test_equal_bytes_of_another_dtype_shape_or_name_are_another_input(other: dict[str, np.ndarray]) -> None:
    held = Quarantine(Clock())
    held.add(inputs(0))

    assert not held.holds(other)


def test_strings_are_told_apart_by_where_one_ends() -> None:
    assert digest_of({"x": np.array([b"ab", b"c"], dtype=object)}) != digest_of({"x": np.array([b"a", b"bc"], dtype=object)})


def test_it_forgets_after_a_while_and_then_costs_nothing_again() -> None:
    clock = Clock()
    held = Quarantine(clock)
    held.add(inputs(1))
    clock.now_s += quarantine.REMEMBERED_S + 1

    assert not held.holds(inputs(1))
    assert not held


def test_adding_again_remembers_it_for_longer_and_others_still_expire() -> None:
    clock = Clock()
    held = Quarantine(clock)
    held.add(inputs(1))
    held.add(inputs(2))
    clock.now_s += quarantine.REMEMBERED_S - 1
    held.add(inputs(1))
    clock.now_s += 2

    assert held.holds(inputs(1))
    assert not held.holds(inputs(2))


def test_it_remembers_a_bounded_number_the_newest_ones() -> None:
    held = Quarantine(Clock())
    for value in range(quarantine.REMEMBERED + 5):
        held.add(inputs(value))

    assert not held.holds(inputs(0))
    assert held.holds(inputs(5))
    assert held.holds(inputs(quarantine.REMEMBERED + 4))
