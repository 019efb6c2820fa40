"""Judge whether a converted model answers as its source does: figures per output, and a verdict in one sentence. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from towline.core import dtypes
from towline.verify.parity.figures import Compared, compared
from towline.verify.parity.suspect import suspicion
from towline.verify.parity.tolerance import Tolerance, tolerance_for

__all__ = ["Answers", "Compared", "Pair", "Parity", "Tolerance", "judge", "tolerance_for"]

# What an event can hold: a model may have a thousand outputs.
MOST_TOLD, MOST_PLOTTED = 64, 8

Answers = Mapping[str, np.ndarray]
# A request, the source's answer to it, and the conversion's.
Pair = tuple[Answers, Answers, Answers]


@dataclass(frozen=True)
class Parity:
    """The verdict over `samples` requests. `worst` is the one with the widest error, `worst_reference` and `worst_candidate` its answers.

    `ill_conditioned` counts the requests that pass only because rounding their input alone moves the source by as much.
    `because` says why it did not pass; empty when it did. Outputs that cannot be compared element by element are not among `outputs`.
    """

    passed: bool
    outputs: Mapping[str, Compared]
    samples: int
    worst: Answers
    because: str
    worst_reference: Answers = field(default_factory=dict)
    worst_candidate: Answers = field(default_factory=dict)
    ill_conditioned: int = 0

    @property
    def distance(self) -> float:
        """The widest error of all outputs, as a multiple of what is allowed; inf where they cannot be compared."""
        return max((math.inf if one.is_misplaced else one.strain for one in self.outputs.values()), default=math.inf)

    @property
    def beyond(self) -> frozenset[int]:
        """The requests (from 0) of which some output differs by more than is allowed."""
        return frozenset(place for one in self.outputs.values() for place in one.beyond)

    def as_json(self) -> dict[str, object]:
        """Plain JSON, for an event's data and for reports, below 128 KiB: the 64 outputs that differ most, points for plots of the first
        eight of a conversion that passed. What is infinite is null."""
        widest = sorted(self.outputs.items(), key=lambda item: -item[1].strain)[:MOST_TOLD]
        plotted = {name for name, _ in widest[:MOST_PLOTTED]} if self.passed else set()
        return {
            "passed": self.passed,
            "because": self.because,
            "samples": self.samples,
            "ill_conditioned": self.ill_conditioned,
            "outputs": {name: _as_json(one, with_points=name in plotted) for name, one in widest},
            "left_out": len(self.outputs) - len(widest),
        }

    def lines(self) -> list[str]:
        """For people: one line per output."""
        return [self._line(name) for name in self.outputs]

    def widest(self) -> str:
        """The line of the output that differs most. There is at least one."""
        return self._line(max(self.outputs, key=lambda name: self.outputs[name].strain))

    def _line(self, name: str) -> str:
        one = self.outputs[name]
        return f"{name}: {_words(one)}  ({self.samples} request{'s'[: self.samples != 1]}, limit {one.limit:.2g})"


def judge(pairs: Sequence[Pair], tolerance: Tolerance, moved: Sequence[Mapping[str, float]] = ()) -> Parity:
    """Compare at least one pair. What is plainly another thing (names, dtypes, shapes) is told before any figure.

    `moved` tells for each pair how far the source's own outputs move with the rounding of its input (conditioning.py).
    """
    assert pairs, "nothing was compared"
    for number, pair in enumerate(pairs):
        if because := _unlike(number, pair[1], pair[2]):
            guess = suspicion(pairs, tolerance)
            return Parity(False, {}, len(pairs), pair[0], f"{because}.{guess}", pair[1], pair[2])
    outputs = {
        name: compared(
            [(np.asarray(reference[name]), np.asarray(candidate[name])) for _, reference, candidate in pairs],
            tolerance.of(name),
            [one.get(name, 0.0) for one in moved],
        )
        for name in pairs[0][1]
    }
    if not outputs:
        return Parity(False, {}, len(pairs), pairs[0][0], "the source gave no output.")
    name, widest = max(outputs.items(), key=lambda item: (item[1].is_misplaced, item[1].strain))
    request, reference, candidate = pairs[widest.sample]
    because = "" if all(one.passed for one in outputs.values()) else f"{_beyond(name, widest)}.{suspicion(pairs, tolerance)}"
    return Parity(not because, outputs, len(pairs), request, because, reference, candidate)


def _unlike(number: int, reference: Answers, candidate: Answers) -> str:
    """How an answer differs before its values are looked at, or nothing."""
    missing = [name for name in reference if name not in candidate]
    extra = [name for name in candidate if name not in reference]
    if missing or extra:
        return f"the source gives the outputs {_names(reference)}, the conversion {_names(candidate)}"
    for name, expected in reference.items():
        first, second = dtypes.of_array(np.asarray(expected)), dtypes.of_array(np.asarray(candidate[name]))
        if first is None or first != second:
            theirs, ours = (dtype.name if dtype else "a type that is not carried" for dtype in (first, second))
            return f"output '{name}' is {theirs} in the source and {ours} in the conversion"
        shapes = list(np.shape(expected)), list(np.shape(candidate[name]))
        if shapes[0] != shapes[1]:
            return f"output '{name}' has shape {shapes[0]} in the source and {shapes[1]} in the conversion, in request {number + 1}"
    return ""


def _beyond(name: str, one: Compared) -> str:
    where = f"in request {one.sample + 1}{f' at {list(one.place)}' if one.place else ''}: {one.got} instead of {one.expected}"
    if one.is_misplaced:
        return f"output '{name}' has NaN or infinity in other places, {where}"
    if not math.isfinite(one.max_absolute) or not one.limit:
        return f"output '{name}' differs in {one.differing:,} of {one.elements:,} elements and must be exact, {where}"
    return f"output '{name}' differs by up to {one.max_absolute:.3g} where {one.limit:.2g} is allowed, {where}"


def _names(answers: Answers) -> str:
    shown = ", ".join(f"'{name[:64]}'" for name in list(answers)[:8])
    return shown + (", …" if len(answers) > 8 else "") if answers else "none"


def _words(one: Compared) -> str:
    if one.dtype not in ("float16", "float32", "float64"):
        return "equal" if not one.differing else f"{one.differing:,} of {one.elements:,} elements differ"
    said = [f"max |Δ| {one.max_absolute:.2g}", f"mean {one.mean_absolute:.2g}"]
    said += [] if one.cosine is None else [f"cosine {one.cosine:.6f}"]
    said += [] if one.top1 is None else [f"top-1 agreement {100 * one.top1:.4g} %"]
    return " · ".join(said)


def _as_json(one: Compared, *, with_points: bool) -> dict[str, object]:
    figures = {
        name: value if not isinstance(value, float) or math.isfinite(value) else None
        for name, value in vars(one).items()
        if name not in ("points", "beyond")
    }
    points = [list(point) for point in one.points] if with_points else []
    return {**figures, "passed": one.passed, "place": list(one.place), "errors": list(one.errors), "points": points}
