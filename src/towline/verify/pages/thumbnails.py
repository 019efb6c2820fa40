"""Small pictures of rows, to stand inside a page as data. Pure but for decoding, which needs Pillow."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

SIDE = 96
MAX_PIXELS = 40_000_000
_MOST_CHANNELS = 4
_LEAST_SIDE = 4


def thumbnail(inputs: Mapping[str, np.ndarray]) -> str:
    """A `data:` URI of one row's first picture, encoded or as numbers; "" where it has none, it cannot be read, or Pillow is missing."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return ""
    for array in inputs.values():
        opened = _opened(array, Image) if array.dtype == object else _painted(array, Image)
        if opened is not None:
            opened.thumbnail((SIDE, SIDE))
            out = io.BytesIO()
            opened.save(out, "PNG")
            return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
    return ""


def _opened(array: np.ndarray, image: Any) -> Any:
    """A JPEG, PNG or WebP that is the row's only string."""
    raw = array.reshape(-1)[0] if array.size == 1 else None
    if not isinstance(raw, bytes):
        return None
    try:
        with image.open(io.BytesIO(raw), formats=("JPEG", "PNG", "WEBP")) as picture:
            # The size is in the header: a small file that unpacks to gigabytes is not unpacked.
            if picture.width * picture.height > MAX_PIXELS:
                return None
            picture.draft("RGB", (SIDE, SIDE))
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError, image.DecompressionBombWarning):
        return None


def _painted(array: np.ndarray, image: Any) -> Any:
    """[1, height, width], with channels before or behind; darkest to lightest of what is there."""
    pixels = planes(array)
    if pixels is None:
        return None
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all() or high == low:
        return None
    return image.fromarray(np.uint8(np.round((pixels - low) / (high - low) * 255)))


def planes(array: np.ndarray) -> np.ndarray | None:
    """Of one row: float64 [height, width] of grey, or [height, width, 3]; None where it is no picture. Pure."""
    if array.dtype.kind not in "fui" or array.ndim not in (3, 4) or len(array) != 1 or array.size > MAX_PIXELS:
        return None
    one = array[0].astype(np.float64)
    if one.ndim == 3 and one.shape[-1] > _MOST_CHANNELS:
        one = np.moveaxis(one, 0, -1)
    if one.ndim == 3:
        if one.shape[-1] > _MOST_CHANNELS:
            return None
        one = one[..., :3] if one.shape[-1] >= 3 else one[..., 0]
    return one if min(one.shape[:2]) >= _LEAST_SIDE else None
