"""Tell an answer that rounding alone may move from one that is wrong: ask the source again with its input rounded otherwise. Pure.

Two right computations of one function differ as if each had been given a slightly other input (backward error; Higham 2002, "Accuracy
and Stability of Numerical Algorithms", chapter 1). Where the source itself answers otherwise after such a change, as a logarithm of next
to nothing does, no conversion can be held to less than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from towline.verify.independence import gap_between

# Of each value: eight units in the last place of float32, which is what a few dozen operations may add up to.
NUDGE = 2.0**-21
NUDGES = 2
# What is seen in so few nudges is not the worst there is.
MARGIN = 4.0
# More requests than this share being so says that nothing was proven.
MOST = 0.5

Answers = Mapping[str, np.ndarray]


def nudged(request: Answers, *, seed: int) -> dict[str, np.ndarray]:
    """The request with each of its floats larger or smaller by a share of up to NUDGE. Whole numbers and strings stay.

    What is all zeros gets values of up to NUDGE: a model that divides by how loud its input is answers anything there.
    """
    rng = np.random.default_rng(seed)

    def moved(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            return array
        by = NUDGE * rng.uniform(-1, 1, array.shape)
        return (array * (1 + by) if array.any() else by).astype(array.dtype)

    return {name: moved(array) for name, array in request.items()}


def movement(answer: Answers, again: Sequence[Answers]) -> dict[str, float]:
    """By output, how far the source's own answer may move with the rounding of its input, margin included; 0 where that is no number."""
    moved = {}
    for name, array in answer.items():
        gaps = [gap_between(array, other[name]) for other in again if name in other]
        widest = max(gaps, default=0.0)
        moved[name] = MARGIN * widest if array.dtype.kind == "f" and np.isfinite(widest) else 0.0
    return moved
