"""Say what a wrong conversion looks like from its answers alone: another order, another layout, a last step that is missing. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from towline.core.manifest import Bound
from towline.verify.independence import magnitude
from towline.verify.parity.tolerance import Tolerance

_Answers = Mapping[str, np.ndarray]
_Pair = tuple[_Answers, _Answers, _Answers]
# More axes have too many orders to try.
_MOST_AXES = 5
_MOST_OUTPUTS = 16
# How a suspicion is told from chance: what it explains lies this much closer than half of the magnitude.
_SHARE = 2.0**-8


def suspicion(pairs: Sequence[_Pair], tolerance: Tolerance) -> str:
    """A sentence to stand behind a verdict, with a space before it; nothing where nothing fits."""
    answers = [(reference, candidate) for _, reference, candidate in pairs if reference and candidate]
    if not answers or any(set(one) != set(answers[0][0]) or set(other) != set(answers[0][1]) for one, other in answers):
        return ""
    said = _reordered(answers, tolerance)
    if said:
        return said
    for name in answers[0][0]:
        told = [(np.asarray(one[name]), np.asarray(other[name])) for one, other in answers if name in other]
        if not told or any(array.dtype.kind != "f" for pair in told for array in pair):
            continue
        if all(one.shape == other.shape and _near(one, other, tolerance.of(name)) for one, other in told):
            continue
        if why := _one_output(told, tolerance.of(name)):
            return f" Output '{name}' {why}."
    return ""


def _reordered(answers: Sequence[tuple[_Answers, _Answers]], tolerance: Tolerance) -> str:
    """The same arrays under each other's names."""
    first, second = answers[0]
    if len(first) != len(second) or not 1 <= len(first) <= _MOST_OUTPUTS:
        return ""
    place: dict[str, str] = {}
    # Those that are where they belong first: what is left is for the others, each once.
    for name in sorted(first, key=lambda name: name not in second):
        limit = tolerance.of(name)
        free = [other for other in (name, *second) if other in second and other not in place.values()]
        found = next((other for other in free if all(_same(one[name], two[other], limit) for one, two in answers)), None)
        if found is None:
            return ""
        place[name] = found
    moved = {name: other for name, other in place.items() if name != other}
    if not moved:
        return ""
    told = ", ".join(f"'{name}' is given as '{other}'" for name, other in list(moved.items())[:4])
    if set(first) != set(second):
        return f" The answers are the same under other names: {told}."
    return f" The outputs look to be in another order: {told}."


def _one_output(told: Sequence[tuple[np.ndarray, np.ndarray]], limit: Bound) -> str:
    if why := _transposed(told, limit):
        return why
    if any(one.shape != other.shape for one, other in told):
        if all(one.size == other.size and _near(one.reshape(-1), other.reshape(-1), limit) for one, other in told):
            return "holds the same values in another shape"
        return ""
    if not all(np.isfinite(array).all() for pair in told for array in pair):
        return ""
    for what, step in _LAST_STEPS:
        if all(_near(one, step(other), limit) for one, other in told):
            return f"looks as if a {what} were missing at the end of the conversion"
        if all(_near(step(one), other, limit) for one, other in told):
            return f"looks as if the conversion ended with a {what} that the source has not"
    return _scaled(told, limit) or _shifted(told, limit)


def _transposed(told: Sequence[tuple[np.ndarray, np.ndarray]], limit: Bound) -> str:
    rank = told[0][0].ndim
    if not 2 <= rank <= _MOST_AXES or any(one.ndim != rank or other.ndim != rank for one, other in told):
        return ""
    for order in itertools.permutations(range(rank)):
        if order == tuple(range(rank)):
            continue
        if all(one.transpose(order).shape == other.shape and _near(one.transpose(order), other, limit) for one, other in told):
            return f"looks transposed{_LAYOUTS.get(order, f': its axes are in the order {list(order)}')}"
    return ""


_LAYOUTS: Mapping[tuple[int, ...], str] = {
    (0, 2, 3, 1): ": NCHW in the source, NHWC in the conversion",
    (0, 3, 1, 2): ": NHWC in the source, NCHW in the conversion",
}


def _softmax(array: np.ndarray) -> np.ndarray:
    wide = array.astype(np.float64)
    if not wide.ndim or not wide.size:
        return wide
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _log_softmax(array: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(_softmax(array), 1e-300)))


def _sigmoid(array: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * array.astype(np.float64))))


_LAST_STEPS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("softmax", _softmax),
    ("log-softmax", _log_softmax),
    ("sigmoid", _sigmoid),
    ("tanh", lambda array: np.tanh(array.astype(np.float64))),
    ("ReLU", lambda array: np.maximum(array.astype(np.float64), 0.0)),
)


def _scaled(told: Sequence[tuple[np.ndarray, np.ndarray]], limit: Bound) -> str:
    """Every element the same multiple of what it should be, in every request."""
    first, second = (np.concatenate([pair[side].reshape(-1) for pair in told]).astype(np.float64) for side in (0, 1))
    if not first.size or not first @ first:
        return ""
    factor = float(first @ second / (first @ first))
    if not factor or not all(_near(one.astype(np.float64) * factor, other, limit) for one, other in told):
        return ""
    return f"is {factor:.6g} times what it should be throughout"


def _shifted(told: Sequence[tuple[np.ndarray, np.ndarray]], limit: Bound) -> str:
    """Off by the same amounts in every row: what a bias would add."""
    if any(one.ndim < 2 for one, _ in told) or len({one.shape[1:] for one, _ in told}) > 1:
        return ""
    first, second = (np.concatenate([pair[side] for pair in told]).astype(np.float64) for side in (0, 1))
    if len(first) < 3:
        return ""
    offset = np.median(second - first, axis=0)
    if not all(_near(one + offset, other, limit) for one, other in told):
        return ""
    return "is off by the same amounts in every row: a bias is missing, doubled or another one"


def _same(reference: np.ndarray, candidate: np.ndarray, limit: Bound) -> bool:
    reference, candidate = np.asarray(reference), np.asarray(candidate)
    if reference.dtype != candidate.dtype or reference.shape != candidate.shape:
        return False
    return _near(reference, candidate, limit) if reference.dtype.kind == "f" else bool(np.array_equal(reference, candidate))


def _near(reference: np.ndarray, candidate: np.ndarray, limit: Bound) -> bool:
    """Whether the two are within twice the limit, or what a suspicion needs: it explains the bulk, not the last bit."""
    if reference.shape != candidate.shape or not np.array_equal(np.isfinite(reference), np.isfinite(candidate)):
        return False
    finite = np.isfinite(reference)
    gap = np.abs(reference[finite].astype(np.float64) - candidate[finite].astype(np.float64)).max(initial=0.0)
    scale = magnitude(np.asarray(candidate[finite]))
    return math.isfinite(gap) and bool(gap <= limit.absolute + min(2 * limit.relative, _SHARE) * scale)
