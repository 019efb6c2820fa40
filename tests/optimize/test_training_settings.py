"""What a training is told reads well, and what is a picture is known by its shape."""

from __future__ import annotations

import pytest

from towline.optimize.training.layout import layout_of
from towline.optimize.training.settings import Training


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
