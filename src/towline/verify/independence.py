"""Decide from measured gaps whether the rows of a batch keep to themselves, and how far two answers of one version may lie apart. Pure.

Two experiments tell rounding from dependence. With a batch's size kept and only the *other* rows changed, an engine takes the same path:
the rows that stayed must give the same bits, so any change beyond what plain repeats show is dependence. With the size changed, kernels
round differently: there a small gap is noise, and a large one says that the model looks at the size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from towline.core.frames import pack_strings
from towline.core.manifest import Bound

# Share of an output's greatest magnitude that another batch size may move it: deep networks, and 8-bit ones where a rounding
# error tips a value over to the next step, stay below; what divides by the number of rows does not.
SIZE_NOISE = {"float16": 2.0**-5, "float32": 2.0**-8, "float64": 2.0**-8}
# The least bound ever recorded, as a share of the magnitude: other thread counts regroup sums.
FLOOR = {"float16": 2.0**-8, "float32": 2.0**-16, "float64": 2.0**-32}
MARGIN = 4.0


@dataclass(frozen=True)
class Gaps:
    """Of one output, the widest absolute gaps seen. `scale` is its greatest finite magnitude; for what is no float, gaps are 0 or inf.

    `repeats`: the same request again. `mates`: other values in the other rows. `size`: a row alone against the same row in a batch.
    """

    output: str
    dtype: str
    scale: float = 0.0
    repeats: float = 0.0
    mates: float = 0.0
    size: float = 0.0

    @property
    def is_float(self) -> bool:
        return self.dtype in SIZE_NOISE


def no_gaps(output: str, answer: np.ndarray) -> Gaps:
    """Where measuring an output begins."""
    return Gaps(output, "string" if answer.dtype == object else answer.dtype.name, scale=magnitude(answer))


def is_deterministic(gaps: Iterable[Gaps]) -> bool:
    """Repeats agree up to rounding; whatever is no float agrees exactly."""
    return all(gap.repeats <= _noise(gap) for gap in gaps)


def why_dependent(gaps: Iterable[Gaps]) -> str:
    """Why rows may not be merged with those of another request, or nothing when they may."""
    for gap in gaps:
        name = f"output '{gap.output}'"
        if gap.repeats > _noise(gap):
            return f"{name} differs from run to run, so nothing can be proven about it"
        if gap.mates > MARGIN * gap.repeats:
            return f"a row of {name} changes with the other rows of its batch{_by(gap.mates, gap)}"
        if gap.size > _noise(gap):
            return f"a row of {name} changes with the size of its batch{_by(gap.size, gap)}"
    return ""


def _noise(gap: Gaps) -> float:
    return SIZE_NOISE.get(gap.dtype, 0.0) * gap.scale


def _by(width: float, gap: Gaps) -> str:
    if not gap.is_float or not math.isfinite(width) or not gap.scale:
        return ""
    return f", by up to {100 * width / gap.scale:.2g} % of its range"


def gap_between(first: np.ndarray, second: np.ndarray) -> float:
    """The widest absolute gap between two answers: 0 when equal, inf when they are not comparable. NaN equals NaN."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return math.inf
    if first.dtype.kind != "f":
        same = pack_strings(first) == pack_strings(second) if first.dtype.kind == "O" else np.array_equal(first, second)
        return 0.0 if same else math.inf
    if np.array_equal(first, second, equal_nan=True):
        return 0.0
    finite = np.isfinite(first) & np.isfinite(second)
    if not np.array_equal(first[~finite], second[~finite], equal_nan=True):
        return math.inf
    return float(np.abs(first[finite].astype(np.float64) - second[finite].astype(np.float64)).max(initial=0.0))


def magnitude(array: np.ndarray) -> float:
    """The greatest finite magnitude of a float array, 0 of any other."""
    if array.dtype.kind != "f":
        return 0.0
    return float(np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0.0))


def bound_for(gap: Gaps, answer: np.ndarray) -> Bound:
    """How far a later answer may lie from this golden one: measured spread with a margin, up to the next power of two, over a floor.

    Powers of two, so that importing the same model again gives the same manifest although the measured spread trembles.
    """
    if not gap.is_float:
        return Bound(absolute=0.0, relative=0.0)
    floor = FLOOR[gap.dtype]
    spread = max(gap.repeats, gap.size) / gap.scale if gap.scale else 0.0
    share = max(MARGIN * spread, floor) if math.isfinite(spread) else floor
    return Bound(absolute=next_power_of_two(share * (magnitude(answer) or 1.0)), relative=floor)


def bounds_for(gaps: Mapping[str, Gaps], answers: Mapping[str, np.ndarray]) -> dict[str, Bound]:
    return {name: bound_for(gaps[name], answer) for name, answer in answers.items()}


def next_power_of_two(value: float) -> float:
    return 2.0 ** math.ceil(math.log2(value))
