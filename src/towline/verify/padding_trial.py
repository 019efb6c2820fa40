"""Try one way of padding: rows alone, and the same rows padded among longer mates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from towline.core.padding import own_part
from towline.verify.guarded import Guarded
from towline.verify.independence import FLOOR, MARGIN, SIZE_NOISE, gap_between, magnitude
from towline.verify.padding_rows import Row, Rows

Lengths = Mapping[str, int]
Answer = Mapping[str, np.ndarray]


class Departs(Exception):
    """Padding is shown to change answers, or cannot be tried: a sentence."""


@dataclass(frozen=True)
class Alone:
    """A row, how long it is, and its answer without mates."""

    row: Row
    lengths: Lengths
    answer: Answer


class Trial:
    """Of one guess at the padding. `repeats` are the widest gaps of plain repeats, by output.

    `cuts` are the dims that outputs carry, by output and axis; `widest` is the widest gap as a share of a row's greatest magnitude.
    """

    def __init__(self, runner: Guarded, rows: Rows, repeats: Mapping[str, float]) -> None:
        self.rows = rows
        self.cuts: dict[tuple[str, int], str] = {}
        self.widest = 0.0
        self._runner = runner
        self._repeats = repeats
        self._reads_padding = False
        self._moved: set[str] = set()

    def alone(self, lengths: Lengths) -> Alone:
        row = self.rows.draw(lengths)
        return Alone(row, lengths, self._runner.run(row))

    def find_cuts(self, rows: Sequence[Alone]) -> None:
        """Which axes of the outputs are as long as the rows, measured: a symbol may say anything. Raises Departs."""
        for name, first in rows[0].answer.items():
            shapes = [one.answer[name].shape for one in rows]
            if len({len(shape) for shape in shapes}) > 1 or not first.ndim:
                raise Departs(f"output '{name}' has another rank for another length")
            for axis in range(1, first.ndim):
                sizes = [shape[axis] for shape in shapes]
                dim = next((dim for dim in self.rows.filling.dims if sizes == [one.lengths[dim] for one in rows]), "")
                if dim:
                    self.cuts[name, axis] = dim
                elif len(set(sizes)) > 1:
                    raise Departs(f"output '{name}' grows with it, but is not as long")

    def compare(self, own: Sequence[Alone], longest: Lengths) -> None:
        """Pad the rows to `longest` beside a mate of that length. Raises Departs, EngineError, NothingUnlike."""
        mate = self.rows.draw(longest, loudness=8.0)
        batch = [*(one.row for one in own), mate]
        padded = self._runner.run(self.rows.together(batch))
        self._check_equal(own, padded)
        other_mate = self.rows.with_other_values(mate, longest)
        batch = [*batch[:-1], other_mate]
        other = self._runner.run(self.rows.with_other_padding(batch, longest))
        self._moved |= {name for name, array in other.items() if not np.array_equal(array[-1:], padded[name][-1:], equal_nan=_nan(array))}
        if not self._keeps_bits(own, padded, other):
            if not self._keeps_bits(own, padded, self._runner.run(self.rows.together(batch))):
                raise Departs("a row changes with the values of the longer rows that it is padded beside")
            self._reads_padding = True
            self._check_equal(own, padded)

    def check_moved(self, own: Sequence[Alone]) -> None:
        """Equal answers show something only of outputs that do change with what is padded. Raises Departs."""
        still = next((name for name in own[0].answer if name not in self._moved), None)
        if still is not None:
            raise Departs(f"output '{still}' did not change with what was tried, so nothing is shown by its staying equal")

    def _check_equal(self, own: Sequence[Alone], padded: Answer) -> None:
        for place, one in enumerate(own):
            for name, answer in one.answer.items():
                width, scale = gap_between(self._cut(padded, name, place, one.lengths), answer), magnitude(answer)
                if width > self._allowed(answer) * scale:
                    raise Departs(f"output '{name}' of a padded row is not what it is alone{_by(width, scale)}")
                self.widest = max(self.widest, width / scale if scale else 0.0)

    def _allowed(self, answer: np.ndarray) -> float:
        kind = answer.dtype.name
        return MARGIN * FLOOR.get(kind, 0.0) if self._reads_padding else SIZE_NOISE.get(kind, 0.0)

    def _keeps_bits(self, own: Sequence[Alone], padded: Answer, other: Answer) -> bool:
        return all(
            gap_between(self._cut(padded, name, place, one.lengths), self._cut(other, name, place, one.lengths)) <= MARGIN * repeats
            for place, one in enumerate(own)
            for name, repeats in self._repeats.items()
        )

    def _cut(self, answer: Answer, name: str, place: int, lengths: Lengths) -> np.ndarray:
        axes = {axis: lengths[dim] for (output, axis), dim in self.cuts.items() if output == name}
        return own_part(answer[name], slice(place, place + 1), axes)


def _nan(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def _by(width: float, scale: float) -> str:
    return f": it departs by up to {100 * width / scale:.2g} % of its range" if scale and math.isfinite(width) else ""
