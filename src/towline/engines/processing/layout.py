"""Put axes into the order a graph wants. Pure."""

from __future__ import annotations

import numpy as np


def arranged(array: np.ndarray, axes: str, order: str) -> np.ndarray:
    """`array`, whose axes are named by the letters of `axes`, as `order` without its N. An axis C that is not there gets size 1."""
    wanted = order[1:]
    if "C" in wanted and "C" not in axes:
        array, axes = array[..., None], axes + "C"
    elif "C" in axes and "C" not in wanted:
        # One channel (import checked it) needs no axis.
        array, axes = array.reshape([size for size, axis in zip(array.shape, axes, strict=True) if axis != "C"]), axes.replace("C", "")
    return np.ascontiguousarray(array.transpose([axes.index(axis) for axis in wanted]))


def normalised(array: np.ndarray, scale: float, mean: np.ndarray, std: np.ndarray, axes: str) -> np.ndarray:
    """(array * scale - mean) / std in float32; several means and stds run along the channels, which are the last axis, or frequencies."""
    if mean.size > 1 or std.size > 1:
        along = [-1 if axis == ("C" if "C" in axes else "F") else 1 for axis in axes]
        mean, std = (values.reshape(along) if values.size > 1 else values for values in (mean, std))
    result = array.astype(np.float32)
    result *= np.float32(scale)
    result -= mean
    result /= std
    return result
