"""What a training is told reads well, and what is a picture is known by its shape."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from towline.optimize.base import PassFailed
from towline.optimize.training.layout import layout_of
from towline.optimize.training.settings import Training, check_training


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((100, 1, 28, 28), "NCHW"),
        ((100, 28, 28, 1), "NHWC"),
        ((100, 224, 224, 3), "NHWC"),
        ((100, 3, 224, 224), "NCHW"),
        # Four channels of 4x4 pixels, either way: as PyTorch has it.
        ((100, 4, 4, 4), "NCHW"),
        ((100, 64, 7, 7), None),
        ((100, 3, 224, 2), None),
        ((100, 28, 28), None),
        ((100, 64), None),
        ((100, 3, 8, 8, 8), None),
    ],
)
def test_a_picture_is_known_by_its_channels(shape: tuple[int, ...], layout: str | None):
    assert layout_of(shape) == layout


def test_settings_are_told_in_one_line():
    chosen = Training(epochs=1, optimizer="adamw", rate=3e-4, l1=1e-4, augment=("shift",), patience=2)

    assert str(chosen) == "1 epoch, adamw 0.0003, cosine, batches of 128, L1 0.0001, shift, patience 2"


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"epochs": 0}, "epochs is 1 or more, not 0."),
        ({"batch": -1}, "batch is 1 or more, not -1."),
        ({"patience": -2}, "patience is 0 or more, not -2."),
        ({"rate": 0.0}, "rate is more than 0, not 0."),
        ({"rate": math.nan}, "rate is more than 0, not nan."),
        ({"l1": -1e-3}, "l1 is 0 or more, not -0.001."),
        ({"l2": math.inf}, "l2 is 0 or more, not inf."),
        ({"smoothing": 1.0}, "smoothing is a share, 0 or more and less than 1, not 1."),
    ],
)
def test_odd_settings_are_refused_by_name(odd: dict[str, Any], told: str):
    with pytest.raises(PassFailed) as refused:
        check_training(replace(Training(), **odd))

    assert refused.value.message == told


def test_the_settings_one_starts_from_are_none_of_them():
    check_training(Training())
