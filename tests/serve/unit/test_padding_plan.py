"""Which rows of unlike length share a run, and how long they become: tables, and what holds for any rows."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from padded_manifests import encoder, pictures

from towline.core.manifest import PaddedInput, Padding, Signature, TensorSpec
from towline.core.warmup import WarmReport
from towline.serve.lanes import PADDING_GAIN, length_that_pays
from towline.serve.padding import LEAST_SHARE, Mix, Plan, bucket

_ANY = 1 << 30


def tokens(length: int) -> tuple[tuple[int, ...], ...]:
    return (length,), (3,)


def mixed(plan: Plan, first: int, *others: int, up_to: int = 512, max_rows: int = 100, max_bytes: int = _ANY) -> tuple[Mix, list[int]]:
    """The run that begins with a row of length `first`, and those of the others that it takes."""
    mix = Mix(plan, tokens(first), 1, first * 8 + 12, up_to=up_to)
    taken = [length for length in others if mix.take(tokens(length), 1, length * 8 + 12, max_rows=max_rows, max_bytes=max_bytes)]
    return mix, taken


@pytest.mark.parametrize(
    ("length", "padded"),
    [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16), (17, 24), (33, 40), (64, 64), (65, 80), (81, 96), (129, 160), (300, 320), (512, 512)],
)
def test_lengths_are_rounded_up_to_few_buckets(length: int, padded: int) -> None:
    assert bucket(length, 512) == padded


def test_an_engine_sees_few_lengths() -> None:
    assert len({bucket(length, 512) for length in range(1, 513)}) == 23
    assert len({bucket(length, 1024) for length in range(1, 1025)}) == 27


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_a_bucket_holds_its_rows_wastes_little_and_never_passes_the_longest_that_was_shown(length: int, longest: int) -> None:
    length = min(length, longest)
    padded = bucket(length, longest)

    assert length <= padded <= longest
    assert padded - length < max(8, length / 4)
    assert bucket(padded, longest) == padded


def test_rows_of_one_length_are_not_padded() -> None:
    mix, taken = mixed(Plan(encoder()), 77, 77, 77)

    assert (taken, mix.is_padded, mix.group, mix.padding_share) == ([77, 77], False, tokens(77), 0.0)


def test_unlike_rows_are_padded_to_the_bucket_of_the_longest() -> None:
    mix, taken = mixed(Plan(encoder()), 60, 70, 50)

    assert (taken, mix.is_padded, mix.group) == ([70, 50], True, tokens(80))
    assert mix.padding_share == pytest.approx(1 - (60 + 70 + 50) / (3 * 80))


def test_a_long_row_never_makes_shorter_ones_more_than_twice_as_long() -> None:
    assert mixed(Plan(encoder()), 10, 512, 300, 21, 16)[1] == [16]
    # Nor do short ones join a long one's run.
    assert mixed(Plan(encoder()), 512, 10, 255, 256)[1] == [256]


@given(st.lists(st.integers(1, 512), min_size=2, max_size=40), st.integers(200, 40_000))
def test_whatever_comes_no_row_is_mostly_padding_and_the_slot_is_never_outgrown(lengths: list[int], max_bytes: int) -> None:
    mix, taken = mixed(Plan(encoder()), *lengths, max_bytes=max_bytes)
    ran = [lengths[0], *taken]
    (padded,) = mix.group[0]

    assert padded >= max(ran)
    assert all(length >= LEAST_SHARE * padded for length in ran)
    assert mix.padding_share <= 1 - LEAST_SHARE
    if taken:
        assert mix.nbytes == len(ran) * (padded * 8 + 12) <= max_bytes


def test_lengths_that_were_not_shown_to_bear_padding_share_only_with_their_like() -> None:
    plan = Plan(encoder(shortest=3, longest=77))

    assert mixed(plan, 2, 3, 2)[1] == [2]
    assert mixed(plan, 78, 77, 78)[1] == [78]
    mix, taken = mixed(plan, 70, 75)
    assert (taken, mix.group) == ([75], tokens(77))


def test_where_padding_does_not_pay_only_equal_rows_share_a_run() -> None:
    assert mixed(Plan(encoder()), 60, 70, 60, up_to=64)[1] == [60]
    assert mixed(Plan(encoder()), 60, 50, 60, up_to=0)[1] == [60]


def test_a_run_holds_no_more_rows_than_it_may() -> None:
    assert mixed(Plan(encoder()), 10, 11, 12, 13, max_rows=3)[1] == [11, 12]


def test_a_runs_bytes_are_counted_as_they_are_after_padding() -> None:
    sent, padded = (33 + 41) * 8 + 2 * 12, 2 * (48 * 8 + 12)

    assert mixed(Plan(encoder()), 33, 41, max_bytes=padded)[1] == [41]
    assert sent < padded - 1
    assert mixed(Plan(encoder()), 33, 41, max_bytes=padded - 1)[1] == []


def test_what_is_not_padded_must_be_equal() -> None:
    mix = Mix(Plan(encoder()), ((10,), (3,)), 1, 92, up_to=512)

    assert not mix.take(((11,), (4,)), 1, 100, max_rows=9, max_bytes=_ANY)


def test_rows_whose_inputs_are_not_as_long_as_one_another_share_only_with_their_like() -> None:
    both = Padding("T", (PaddedInput("ids", 1, 0), PaddedInput("mask", 1, 0)), (), 1, 512, 0.0)
    inputs = (TensorSpec("ids", "int64", ("N", "ids_1")), TensorSpec("mask", "int64", ("N", "mask_1")))
    manifest = msgspec.structs.replace(encoder(), signatures={"serving_default": Signature(inputs, ())}, padding=(both,))

    def takes(first: tuple[int, int], other: tuple[int, int]) -> bool:
        mix = Mix(Plan(manifest), ((first[0],), (first[1],)), 1, 8 * sum(first), up_to=512)
        taken = mix.take(((other[0],), (other[1],)), 1, 8 * sum(other), max_rows=9, max_bytes=_ANY)
        assert first != other or mix.group == ((first[0],), (first[1],))
        return taken

    assert takes((8, 8), (7, 7))
    assert takes((8, 7), (8, 7))
    assert not takes((8, 8), (8, 7))
    assert not takes((8, 7), (7, 7))
    assert not takes((8, 7), (7, 8))


def test_of_two_dims_a_row_keeps_half_of_what_it_becomes() -> None:
    def take(shape: tuple[int, int]) -> bool:
        mix = Mix(Plan(pictures()), ((64, 64),), 1, 4 * 64 * 64, up_to=512)
        return mix.take((shape,), 1, 4 * shape[0] * shape[1], max_rows=9, max_bytes=_ANY)

    assert take((48, 48))
    # Each side is more than half of what it becomes, the whole is less.
    assert not take((40, 40))
    assert not take((60, 150))
    assert not take((100, 100))


def test_a_dim_that_is_equal_in_all_rows_is_left_as_it_is() -> None:
    mix = Mix(Plan(pictures()), ((50, 33),), 1, 6600, up_to=512)

    assert mix.take(((60, 33),), 1, 7920, max_rows=9, max_bytes=_ANY)
    assert mix.group == ((64, 33),)


@pytest.mark.parametrize(
    ("lengths", "longest"),
    [
        ((), 0),
        (((8, 100.0, 790.0),), 0),
        (((8, 100.0, 100.0), (16, 100.0, 800 / PADDING_GAIN), (32, 100.0, 700.0), (64, 100.0, 100.0)), 16),
        (((8, 10.0, 20.0), (16, 10.0, 20.0)), 16),
    ],
)
def test_rows_are_padded_as_long_as_merging_outweighs_it(lengths: tuple[tuple[int, float, float], ...], longest: int) -> None:
    assert length_that_pays(lengths) == longest


@pytest.mark.parametrize("told", [None, 5, "x", [[8, 1.0]], [["x", 1.0, 1.0]], [[8, -1.0, 1.0]], [[0, 1.0, 1.0]], [[8, 1.0, 0]], [8]])
def test_lengths_that_a_worker_made_up_are_as_good_as_none(told: object) -> None:
    assert WarmReport.from_message({"is_ready": True, "lengths": told}).lengths == ()


def test_lengths_travel_from_the_worker_as_they_are() -> None:
    report = WarmReport(True, "", 13.0, 14.1, (), ((8, 13.0, 14.1), (16, 14.0, 20.0)))

    assert WarmReport.from_message({**report.as_message(), "lengths": [[8, 13.0, 14.1], [16, 14.0, 20.0]]}) == report


def test_what_of_an_answer_is_a_rows_own_follows_from_the_manifest() -> None:
    plan = Plan(encoder())

    assert plan.values == {"ids": 0}
    assert plan.cuts == {"y": {1: 0}}
    assert plan.shape(tokens(10)) == ((10,), ((-1,), (3,)), 10 * np.dtype(np.int64).itemsize)


def test_clients_that_send_every_length_there_is_fill_no_memory() -> None:
    plan = Plan(encoder())
    for length in range(1, 10_000):
        plan.shape(tokens(length))

    assert len(plan._shapes) <= 4096
