"""What one tensor is to another that should equal it: a factor per channel, some channels wrong, a border, a shift. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from towline.verify.independence import magnitude

# A relation explains a tensor when what it leaves unexplained is at most this many times the share that rounding is given.
_EXPLAINED = 8.0
_MOST_CHANNELS = 8192
_CHANNELS_LAST, _CHANNELS_FIRST = "last", "first"


@dataclass(frozen=True)
class Relation:
    """`kind` is one of: equal, factor, channel factors, channels reordered, channels lost, border, shift. `words` go on "its output …".

    `factors` are those of the channels, smallest and greatest.
    """

    kind: str
    words: str
    factors: tuple[float, float] = (1.0, 1.0)

    @property
    def is_factors(self) -> bool:
        return self.kind in ("factor", "channel factors")


def aligned(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray | None:
    """`candidate` in the layout of `reference`: channels moved to the other end where that fits better; None where no layout fits."""
    options = [candidate] if candidate.shape == reference.shape else []
    if 3 <= reference.ndim == candidate.ndim <= 5:
        moved = [np.moveaxis(candidate, 1, -1), np.moveaxis(candidate, -1, 1)]
        options += [array for array in moved if array.shape == reference.shape]
    if not options and candidate.size == reference.size and reference.size:
        options = [candidate.reshape(reference.shape)]
    return min(options, key=lambda array: share_off(reference, array)) if options else None


def share_off(reference: np.ndarray, candidate: np.ndarray) -> float:
    """The widest error as a share of the reference's magnitude; inf where NaN or infinity stand elsewhere, or shapes differ."""
    if reference.shape != candidate.shape or not np.array_equal(np.isfinite(reference), np.isfinite(candidate)):
        return math.inf
    finite = np.isfinite(reference)
    gap = np.abs(reference[finite].astype(np.float64) - candidate[finite].astype(np.float64)).max(initial=0.0)
    scale = magnitude(reference) if reference.dtype.kind == "f" else 0.0
    return float(gap / scale) if scale else (0.0 if not gap else math.inf)


def relation(reference: np.ndarray, candidate: np.ndarray, share: float) -> Relation | None:
    """How `candidate` (aligned) departs from `reference`, or None where nothing simple explains it."""
    if not (np.isfinite(reference).all() and np.isfinite(candidate).all()) or not reference.size:
        return None
    near = _EXPLAINED * share
    if share_off(reference, candidate) <= share:
        return Relation("equal", "is what it should be")
    wide, other = reference.astype(np.float64), candidate.astype(np.float64)
    factor = float((wide.ravel() @ other.ravel()) / ((wide.ravel() @ wide.ravel()) or 1.0))
    if factor and share_off(wide * factor, other) <= near:
        return Relation("factor", f"is {factor:.6g} times what it should be", (factor, factor))
    for where in (_CHANNELS_FIRST, _CHANNELS_LAST):
        if found := _by_channel(_channels(wide, where), _channels(other, where), near):
            return found
    return _in_the_plane(wide, other, near)


def _channels(array: np.ndarray, where: str) -> np.ndarray:
    """[channels, everything else]; nothing where the array has no such axis."""
    axis = 1 if where == _CHANNELS_FIRST else array.ndim - 1
    if array.ndim < 2 or not 1 < array.shape[axis] <= _MOST_CHANNELS:
        return np.empty((0, 0))
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _by_channel(reference: np.ndarray, candidate: np.ndarray, near: float) -> Relation | None:
    count = len(reference)
    if count < 2:
        return None
    near *= np.abs(reference).max() or 1.0
    right = np.abs(reference - candidate).max(axis=1) <= near
    still = np.ptp(candidate, axis=1) <= near
    # A channel that is dead on both sides, as behind a ReLU, agrees with anything.
    living = np.ptp(reference, axis=1) > near
    partly = (right & living).any() and not right.all()
    if found := _reordered(reference, candidate, near):
        return found
    if reference.shape[1] > 1 and partly and still[~right].all():
        return Relation("channels lost", f"is wrong in {_counted(~right)}, which say the same whatever comes in")
    if reference.shape[1] >= 4 and (fit := _affine(reference, candidate, near)):
        return fit
    return Relation("channels lost", f"is wrong in {_counted(~right)}") if partly else None


def _counted(wrong: np.ndarray) -> str:
    """`3 of 8 channels (5 to 7)`."""
    places = np.flatnonzero(wrong)
    run = places[-1] - places[0] == len(places) - 1
    which = f"{places[0]} to {places[-1]}" if run and len(places) > 1 else f"{places[0]}" + (" and others" if len(places) > 1 else "")
    return f"{len(places)} of {len(wrong)} channels ({which})"


def _affine(reference: np.ndarray, candidate: np.ndarray, near: float) -> Relation | None:
    """Each channel times a number of its own, plus another."""
    centred, other = reference - reference.mean(axis=1, keepdims=True), candidate - candidate.mean(axis=1, keepdims=True)
    power = (centred**2).sum(axis=1)
    living = power > near**2
    if living.sum() < 2:
        return None
    factors = (centred * other).sum(axis=1)[living] / power[living]
    if np.abs(other[living] - factors[:, None] * centred[living]).max() > near:
        return None
    low, high = float(factors.min()), float(factors.max())
    return Relation("channel factors", f"is {low:.6g} to {high:.6g} times what it should be, by channel", (low, high))


def _reordered(reference: np.ndarray, candidate: np.ndarray, near: float) -> Relation | None:
    if len(reference) > 512:
        return None
    place = [np.flatnonzero(np.abs(candidate - channel).max(axis=1) <= near) for channel in reference]
    if not all(len(found) for found in place):
        return None
    order = [int(found[0]) for found in place]
    if len(set(order)) < len(order) or order == sorted(order):
        return None
    how = "reverse" if order == sorted(order, reverse=True) else "another"
    return Relation("channels reordered", f"has its channels in {how} order")


def _in_the_plane(reference: np.ndarray, candidate: np.ndarray, near: float) -> Relation | None:
    """Pictures that agree away from the border, or when moved by a pixel. Height and width are axes 2 and 3, or 1 and 2."""
    if reference.ndim != 4:
        return None
    for axes in ((2, 3), (1, 2)):
        height, width = (reference.shape[axis] for axis in axes)
        if min(height, width) < 5:
            continue
        inside = tuple(slice(2, -2) if axis in axes else slice(None) for axis in range(4))
        if share_off(reference[inside], candidate[inside]) <= near:
            return Relation("border", "is right inside and wrong at the border")
        for down, right in ((1, 1), (1, 0), (0, 1), (-1, -1), (-1, 0), (0, -1)):
            moved = np.roll(candidate, (down, right), axis=axes)
            if share_off(reference[inside], moved[inside]) <= near:
                return Relation("shift", f"is moved by {abs(down)} down and {abs(right)} across")
    return None
