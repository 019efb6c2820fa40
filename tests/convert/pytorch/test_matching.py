"""Weights that do not fit an architecture are refused by name, with the likely cause."""

from __future__ import annotations

import pytest

from towline.convert.torch.matching import check_fits
from towline.core.errors import ImportRefused

EXPECTED = {"body.weight": (16, 10), "body.num_batches_tracked": (), "head.weight": (4, 16), "head.bias": (4,)}


def refusal(found: dict[str, tuple[int, ...]]) -> ImportRefused:
    with pytest.raises(ImportRefused) as caught:
        check_fits(EXPECTED, found, "Net")
    return caught.value


def test_weights_that_fit_are_taken_with_or_without_counters() -> None:
    check_fits(EXPECTED, EXPECTED, "Net")
    check_fits(EXPECTED, {name: shape for name, shape in EXPECTED.items() if "num" not in name} | {"n_averaged": ()}, "Net")


def test_missing_weights_are_named() -> None:
    refused = refusal({"body.weight": (16, 10)})

    assert refused.message == "The weights are not those of Net: they lack 'head.weight', 'head.bias'."
    assert "does not hold the whole model" in refused.hint


def test_weights_too_many_are_named_and_counted() -> None:
    refused = refusal(EXPECTED | {f"more.{place}": (1,) for place in range(5)})

    assert "have also 'more.0', 'more.1', 'more.2' and 2 more" in refused.message
    assert "The code lacks layers" in refused.hint


def test_another_number_of_classes_is_told_with_what_to_write() -> None:
    refused = refusal(EXPECTED | {"head.weight": (7, 16), "head.bias": (7,)})

    assert "'head.weight' is [7,16], expected [4,16]" in refused.message
    assert refused.hint == "The number of classes differs: 7 in the weights, 4 in the code. Give it: --arch 'FILE:Class(num_classes=7)'."


def test_other_sizes_throughout_are_told_apart_from_classes() -> None:
    assert "with other sizes" in refusal(EXPECTED | {"body.weight": (32, 10), "head.weight": (4, 32)}).hint


def test_weights_of_something_else_are_named_for_what_they_are() -> None:
    assert (
        "a BERT-like encoder"
        in refusal({"embeddings.word_embeddings.weight": (9, 8), "encoder.layer.0.attention.self.query.weight": (8, 8)}).hint
    )
