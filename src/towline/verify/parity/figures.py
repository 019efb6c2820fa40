"""Compare one output of a source with the same output of its conversion, over many requests, in figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from towline.core.manifest import Bound
from towline.verify.independence import magnitude

# For plots: so many elements of an output, and errors counted by decade of their share of the magnitude.
POINTS = 120
DECADES = tuple(range(-10, 1))

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """One output over all requests. `relative` errors are shares of the output's magnitude, never of one element, which may be next to 0.

    `strain` is the widest error as a multiple of what is allowed: up to 1 passes. The worst element is `place` of request `sample`
    (from 0), where the source gives `expected` and the conversion `got`. `cosine` is None where either side is all zeros or no number,
    `top1` (share of rows whose greatest element, along the last axis, is the same) where an output holds no scores.
    `points` are (source, conversion) of some elements; `errors` counts elements that are equal, then by decade (DECADES). `beyond` are the
    requests (from 0) that differ by more than is allowed.
    """

    dtype: str
    max_absolute: float
    mean_absolute: float
    max_relative: float
    mean_relative: float
    cosine: float | None
    top1: float | None
    limit: float
    magnitude: float
    strain: float
    differing: int
    elements: int
    sample: int
    place: tuple[int, ...]
    expected: str
    got: str
    points: tuple[tuple[float, float], ...] = ()
    errors: tuple[int, ...] = ()
    is_misplaced: bool = False
    beyond: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        return self.strain <= 1.0 and not self.is_misplaced


@dataclass(frozen=True)
class _Gaps:
    """One request: the absolute error of each element, as float64; inf where only one side is finite, or strings differ."""

    gaps: np.ndarray
    limit: float
    scale: float
    is_misplaced: bool


def usual_magnitudes(references: Sequence[np.ndarray]) -> list[float]:
    """What each answer's errors are measured against: its own greatest magnitude, or the usual one where that is greater.

    An answer next to 0 beside others that are not carries their rounding errors; a loud one does not excuse the quiet ones.
    """
    own = [magnitude(array) for array in references]
    audible = sorted(scale for scale in own if scale)
    # The lower median: of two, the loud one does not count.
    usual = audible[(len(audible) - 1) // 2] if audible else 0.0
    return [max(scale, usual) for scale in own]


def compared(pairs: Sequence[Pair], limit: Bound, moved: Sequence[float] = ()) -> Compared:
    """(source, conversion) by request, equal in dtype and shape. `moved` is how far the source itself moves there (conditioning.py)."""
    scales = usual_magnitudes([reference for reference, _ in pairs])
    more = moved or [0.0] * len(pairs)
    found = [_gaps(*pair, limit, scale, extra) for pair, scale, extra in zip(pairs, scales, more, strict=True)]
    strains = [_strain(one) for one in found]
    sample = int(np.argmax(strains))
    worst = found[sample]
    # The first of equally wide ones, so that the same evidence is told alike.
    flat = int(worst.gaps.argmax()) if worst.gaps.size else 0
    place = tuple(int(index) for index in np.unravel_index(flat, worst.gaps.shape)) if worst.gaps.size else ()
    reference, candidate = pairs[sample]
    shares = [one.gaps / one.scale if one.scale else np.where(one.gaps > 0, math.inf, 0.0) for one in found]
    elements = sum(one.gaps.size for one in found)
    return Compared(
        dtype="string" if reference.dtype.kind in "OSU" else reference.dtype.name,
        max_absolute=max(float(one.gaps.max(initial=0.0)) for one in found),
        mean_absolute=sum(float(one.gaps.sum()) for one in found) / max(elements, 1),
        max_relative=max(float(share.max(initial=0.0)) for share in shares),
        mean_relative=sum(float(share.sum()) for share in shares) / max(elements, 1),
        cosine=_cosine(pairs),
        top1=_top1(pairs, [one.limit for one in found]),
        limit=worst.limit,
        magnitude=worst.scale,
        strain=max(strains),
        differing=sum(int((one.gaps > 0).sum()) for one in found),
        elements=elements,
        sample=sample,
        place=place,
        expected=_words(reference, flat),
        got=_words(candidate, flat),
        points=_points(pairs),
        errors=_by_decade(shares),
        is_misplaced=any(one.is_misplaced for one in found),
        beyond=tuple(place for place, one in enumerate(found) if one.is_misplaced or strains[place] > 1.0),
    )


def _gaps(reference: np.ndarray, candidate: np.ndarray, limit: Bound, scale: float, extra: float) -> _Gaps:
    allowed = limit.absolute + limit.relative * scale + extra
    if reference.dtype.kind in "OSU":
        same = [_bytes(one) == _bytes(other) for one, other in zip(reference.reshape(-1), candidate.reshape(-1), strict=True)]
        return _Gaps(np.where(np.array(same, bool).reshape(reference.shape), 0.0, math.inf), 0.0, scale, is_misplaced=False)
    if reference.dtype.kind != "f":
        return _Gaps(_integer_gaps(reference, candidate), allowed, scale, is_misplaced=False)
    finite = np.isfinite(reference) & np.isfinite(candidate)
    first, second = np.where(finite, reference, 0).astype(np.float64), np.where(finite, candidate, 0).astype(np.float64)
    same = (reference == candidate) | (np.isnan(reference) & np.isnan(candidate))
    gaps = np.where(finite, np.abs(first - second), np.where(same, 0.0, math.inf))
    return _Gaps(gaps, allowed, scale, is_misplaced=bool(np.isinf(gaps).any()))


def _integer_gaps(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Exact where 64-bit integers would be rounded alike: unlike ones are at least 1 apart."""
    gaps = np.abs(reference.astype(np.float64) - candidate.astype(np.float64))
    return np.where(reference == candidate, 0.0, np.maximum(gaps, 1.0))


def _strain(one: _Gaps) -> float:
    widest = float(one.gaps.max(initial=0.0))
    return 0.0 if not widest else widest / one.limit if one.limit else math.inf


def _cosine(pairs: Sequence[Pair]) -> float | None:
    """Between all elements of the one side and all of the other, each divided by the greatest so that no square overflows."""
    numeric = [(one, other) for one, other in pairs if one.dtype.kind in "fiu"]
    if not numeric:
        return None
    first, second = (np.concatenate([pair[side].reshape(-1) for pair in numeric]).astype(np.float64) for side in (0, 1))
    finite = np.isfinite(first) & np.isfinite(second)
    first, second = first[finite], second[finite]
    tops = np.abs(first).max(initial=0.0), np.abs(second).max(initial=0.0)
    if not all(tops):
        return None
    first, second = first / tops[0], second / tops[1]
    return float(np.clip(first @ second / math.sqrt((first @ first) * (second @ second)), -1.0, 1.0))


def _top1(pairs: Sequence[Pair], limits: Sequence[float]) -> float | None:
    """Greatest elements that lie closer together than twice the limit count as one: rounding may choose either."""
    agreeing, rows = 0, 0
    for (reference, candidate), limit in zip(pairs, limits, strict=True):
        if reference.dtype.kind != "f" or reference.ndim < 2 or reference.shape[-1] < 2 or not np.isfinite(reference).all():
            return None
        chosen = candidate.argmax(axis=-1)[..., None]
        at_chosen = np.take_along_axis(reference, chosen, axis=-1)[..., 0].astype(np.float64)
        agreeing += int((at_chosen >= reference.max(axis=-1) - 2 * limit).sum())
        rows += at_chosen.size
    return agreeing / rows if rows else None


def _points(pairs: Sequence[Pair]) -> tuple[tuple[float, float], ...]:
    """As many of each request, evenly spread over it."""
    each = max(POINTS // len(pairs), 1)
    chosen: list[tuple[float, float]] = []
    for reference, candidate in pairs[:POINTS]:
        if reference.dtype.kind not in "fiu" or not reference.size:
            continue
        places = np.unique(np.linspace(0, reference.size - 1, min(each, reference.size)).astype(np.int64))
        drawn = zip(reference.reshape(-1)[places].astype(float), candidate.reshape(-1)[places].astype(float), strict=True)
        chosen += [(float(f"{x:.7g}"), float(f"{y:.7g}")) for x, y in drawn if math.isfinite(x) and math.isfinite(y)]
    return tuple(chosen)


def _by_decade(shares: Sequence[np.ndarray]) -> tuple[int, ...]:
    """How many elements are equal, then how many differ by a share below 1e-10, below 1e-9 … below 1, and by more."""
    counts = np.zeros(len(DECADES) + 2, np.int64)
    for share in shares:
        flat = share.reshape(-1)
        counts[0] += int((flat == 0).sum())
        above = np.searchsorted([10.0**decade for decade in DECADES], flat[flat > 0], side="right")
        counts[1:] += np.bincount(above, minlength=len(DECADES) + 1)
    return tuple(map(int, counts))


def _words(array: np.ndarray, flat: int) -> str:
    if not array.size:
        return "nothing"
    element = array.reshape(-1)[flat]
    if array.dtype.kind in "OSU":
        return ascii(_bytes(element)[:40].decode("utf-8", "replace"))
    return f"{float(element):.7g}" if array.dtype.kind == "f" else str(element)


def _bytes(element: object) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()
