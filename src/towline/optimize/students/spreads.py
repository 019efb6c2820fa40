"""How the rows' inputs are spread, for students that are drawn anew: what is far from 0 and 1 is centred and scaled within the graph."""

from __future__ import annotations

import numpy as np

from towline.optimize.rows import Rows
from towline.optimize.students.asked import Asked
from towline.optimize.students.drawn import Spread

_ROWS = 2048
# Beyond these, a fresh network learns slowly or not at all.
_FAR_MEAN, _WIDE, _FLAT = 2.0, 4.0, 0.05


def spreads_of(asked: Asked, rows: Rows) -> dict[str, Spread]:
    """Mean and deviation per channel of a picture and per feature of flat numbers, of the inputs that need it."""
    found = {}
    for one in asked.inputs:
        if one.name not in rows.inputs or asked.form not in ("picture", "flat"):
            continue
        some = np.asarray(rows.inputs[one.name][:_ROWS], np.float64)
        # A picture without an axis of channels has one mean.
        kept = {"NCHW": (1,), "NHW": ()}.get(asked.layout, (some.ndim - 1,))
        others = tuple(axis for axis in range(some.ndim) if axis not in kept)
        mean, deviation = np.atleast_1d(some.mean(others)), np.atleast_1d(some.std(others))
        if needs_scaling(mean, deviation):
            # A channel that never changes tells nothing; it is centred only.
            found[one.name] = (mean, np.where(deviation > 0, deviation, 1.0))
    return found


def needs_scaling(mean: np.ndarray, deviation: np.ndarray) -> bool:
    """Pure."""
    typical = deviation[deviation > 0]
    return bool(np.abs(mean).max(initial=0) > _FAR_MEAN or deviation.max(initial=0) > _WIDE or (len(typical) and typical.max() < _FLAT))
