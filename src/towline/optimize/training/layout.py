"""Which axis of a picture is what. Pure, and without a framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Layout = Literal["NCHW", "NHWC"]
# Grey, with transparency, colour, both.
_CHANNELS = (1, 2, 3, 4)
# Less is no picture.
_LEAST_SIDE = 4


def layout_of(shape: Sequence[int]) -> Layout | None:
    """Of an input of this shape, its first axis rows; None for what is no picture."""
    if len(shape) != 4:
        return None
    first = shape[1] in _CHANNELS and min(shape[2:]) >= _LEAST_SIDE
    last = shape[3] in _CHANNELS and min(shape[1:3]) >= _LEAST_SIDE
    if first:
        # 3x4x4 pixels of three channels or four: PyTorch's order is the likelier one.
        return "NCHW"
    return "NHWC" if last else None
