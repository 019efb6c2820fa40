"""Tell a weight that was cut short by the zeros at its end. Pure."""

from __future__ import annotations

import numpy as np

# Zeros at the end of a tensor that are no accident: as many at least, and as great a share of it.
_MANY_ZEROS = 16
_ZERO_SHARE = 1 / 64


def trailing_zeros(array: np.ndarray) -> float:
    """The share of a tensor's elements that are zeros at its end, in the order of memory; what a file that was cut short and padded has.

    0 where they are too few to mean anything, or where it is all zeros, as a bias may be.
    """
    flat = np.asarray(array).reshape(-1)
    living = np.flatnonzero(flat)
    zeros = flat.size - (int(living[-1]) + 1) if living.size else 0
    return zeros / flat.size if zeros >= max(_MANY_ZEROS, _ZERO_SHARE * flat.size) else 0.0
