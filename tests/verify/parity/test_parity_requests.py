"""The requests that two models are compared on: legal, unlike, bounded, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from towline.core import dtypes
from towline.core.manifest import Signature, TensorSpec
from towline.verify.parity.requests import MAX_REQUESTS, MAX_TOTAL_BYTES, parity_requests

ROWS = Signature((TensorSpec("x", "float32", ("N", 4)),), ())
TEXT = Signature((TensorSpec("ids", "int64", ("N", "T")), TensorSpec("mask", "int64", ("N", "T"))), ())
PICTURE = Signature((TensorSpec("image", "float32", ("N", 3, "H", "W")),), ())
FIXED = Signature((TensorSpec("x", "float64", (1, 4)),), ())
MIXED = Signature((TensorSpec("x", "float16", ("N", 2)), TensorSpec("s", "string", ("N",)), TensorSpec("on", "bool", ("N", "T"))), ())
ALL = [ROWS, TEXT, PICTURE, FIXED, MIXED]


@pytest.mark.parametrize("signature", ALL)
def test_every_request_is_legal(signature):
    requests = parity_requests(signature)

    assert 8 <= len(requests) <= MAX_REQUESTS
    for request in requests:
        sizes: dict[str, int] = {}
        for spec in signature.inputs:
            array = request[spec.name]
            assert array.dtype == dtypes.BY_NAME[spec.dtype].numpy
            assert array.ndim == len(spec.shape)
            for dim, size in zip(spec.shape, array.shape, strict=True):
                assert size == (dim if isinstance(dim, int) else sizes.setdefault(dim, size))


@pytest.mark.parametrize("signature", [ROWS, TEXT, PICTURE, MIXED])
def test_an_open_batch_is_tried_with_one_two_three_and_eight_rows(signature):
    assert {len(request[signature.inputs[0].name]) for request in parity_requests(signature)} == {1, 2, 3, 8}


def test_open_dims_are_tried_with_odd_sizes_and_unlike_one_another():
    shapes = {request["image"].shape[2:] for request in parity_requests(PICTURE)}

    assert (65, 97) in shapes
    assert (97, 65) in shapes
    assert {request["ids"].shape[1] for request in parity_requests(TEXT)} >= {7, 8, 13}


def test_values_at_the_edges_are_tried():
    values = [request["x"] for request in parity_requests(ROWS)]

    assert any((value == 0).all() for value in values)
    assert any((value == 1).all() for value in values)
    assert any((value < 0).all() for value in values)
    assert any((value > 0).all() and (value != 1).any() for value in values)
    assert any(0 < np.abs(value).max() < 0.01 for value in values)
    assert any(np.abs(value).max() > 5 for value in values)


def test_a_model_that_takes_only_small_indices_is_asked_in_every_batch_all_the_same():
    taken = [request for request in parity_requests(TEXT) if request["ids"].max() <= 1 and request["mask"].max() <= 1]

    assert {len(request["ids"]) for request in taken} == {1, 2, 3, 8}


def test_samples_come_first_as_they_are_and_all_others_are_drawn_from_them():
    sample = {"ids": np.array([[70, 80, 90]]), "mask": np.array([[1, 1, 0]])}

    requests = parity_requests(TEXT, samples=[sample, {name: array + 1 for name, array in sample.items()}])

    assert np.array_equal(requests[0]["ids"], sample["ids"])
    assert np.array_equal(requests[1]["ids"], sample["ids"] + 1)
    assert all(set(request["ids"].reshape(-1)) <= {70, 80, 90} for request in requests[2:])
    assert {len(request["ids"]) for request in requests} == {1, 2, 3, 8}


def test_they_are_bounded_in_count_and_bytes_and_the_first_is_kept_whatever_its_size():
    wide = Signature((TensorSpec("x", "float32", ("N", 1 << 22)),), ())

    requests = parity_requests(wide)
    assert MAX_TOTAL_BYTES // 2 < sum(request["x"].nbytes for request in requests) <= MAX_TOTAL_BYTES
    huge = {"x": np.zeros((1, (MAX_TOTAL_BYTES >> 2) + 1), np.float32)}
    assert len(parity_requests(Signature((TensorSpec("x", "float32", ("N", "K")),), ()), samples=[huge])) == 1
    assert len(parity_requests(ROWS, samples=[{"x": np.zeros((1, 4), np.float32)}] * 500)) == MAX_REQUESTS


def test_the_same_seed_gives_the_same_requests():
    first, second, other = parity_requests(MIXED), parity_requests(MIXED), parity_requests(MIXED, seed=1)

    assert all(np.array_equal(one[name], two[name]) for one, two in zip(first, second, strict=True) for name in one)
    assert not np.array_equal(first[0]["x"], other[0]["x"])
