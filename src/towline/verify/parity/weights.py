"""Compare the weights of two models where their layers cannot be had: by name, else by shape and values. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from towline.verify.parity.relation import share_off

# Zeros at the end of a tensor that are no accident: as many at least, and as great a share of it.
_MANY_ZEROS = 16
_ZERO_SHARE = 1 / 64
_MOST_TOLD = 8


def trailing_zeros(array: np.ndarray) -> float:
    """The share of a tensor's elements that are zeros at its end, in the order of memory; what a file that was cut short and padded has.

    0 where they are too few to mean anything, or where it is all zeros, as a bias may be.
    """
    flat = np.asarray(array).reshape(-1)
    living = np.flatnonzero(flat)
    zeros = flat.size - (int(living[-1]) + 1) if living.size else 0
    return zeros / flat.size if zeros >= max(_MANY_ZEROS, _ZERO_SHARE * flat.size) else 0.0


def differing_weights(source: Mapping[str, np.ndarray], conversion: Mapping[str, np.ndarray], share: float = 2.0**-20) -> list[str]:
    """Sentences on weights that differ, at most eight. A weight of the source is looked for by its name, else by shape and values, also
    transposed. Converters fold weights into one another, so one that is not found anywhere is told only where its name was found."""
    said = []
    for name, array in source.items():
        other = conversion.get(name)
        if other is None:
            continue
        if sorted(array.shape) != sorted(other.shape):
            said.append(f"weight '{name}' has shape {list(array.shape)} in the source and {list(other.shape)} in the conversion")
        elif why := _how(array, other, share):
            said.append(f"weight '{name}' {why}")
    named = {id(conversion[name]) for name in source if name in conversion}
    for name, array in conversion.items():
        if id(array) not in named and (zeros := trailing_zeros(array)):
            said.append(f"the last {100 * zeros:.0f} % of weight '{name}' are zeros: it looks truncated")
    return said[:_MOST_TOLD]


def _how(array: np.ndarray, other: np.ndarray, share: float) -> str:
    if array.shape == other.shape and share_off(array, other) <= share:
        return ""
    if array.ndim == 2 and share_off(array.T, other) <= share and array.shape[0] != array.shape[1]:
        return ""
    if array.ndim == 2 and share_off(array.T, other) <= share:
        return "is transposed"
    if array.shape != other.shape:
        return f"has shape {list(array.shape)} in the source and {list(other.shape)} in the conversion"
    zeros = trailing_zeros(other)
    if zeros and not trailing_zeros(array):
        return f"is truncated: its last {100 * zeros:.0f} % are zeros"
    for axis in range(array.ndim):
        if array.shape[axis] > 1 and share_off(np.flip(array, axis), other) <= share:
            return f"is reversed along axis {axis}: the order of channels is swapped"
    return f"holds other values, off by up to {100 * share_off(array, other):.2g} % of its magnitude"
