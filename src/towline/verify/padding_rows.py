"""Make rows of chosen lengths, and put them into one batch with a padding that a wrong model cannot mistake for nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from towline.core.manifest import TensorSpec
from towline.core.padding import joined
from towline.verify import inputs as make_inputs
from towline.verify.inputs import Recipe

_REDRAWS = 16
Row = Mapping[str, np.ndarray]


class NothingUnlike(Exception):
    """The values that the engine takes are all like the padding: with them every model would look right."""


@dataclass(frozen=True)
class Filling:
    """A guess to be proven: pad along `dims`, with 0, and a mask with `in_masks`."""

    dims: tuple[str, ...]
    in_masks: int = 0

    def axes(self, spec: TensorSpec) -> dict[int, str]:
        """The padded axes of an input, and their dims."""
        return {axis: dim for axis, dim in enumerate(spec.shape or ()) if dim in self.dims}

    def value(self, spec: TensorSpec) -> int:
        return self.in_masks if is_mask(spec) else 0


def is_mask(spec: TensorSpec) -> bool:
    """Only a guess by name, which decides with what the input is tried."""
    return "mask" in spec.name.lower() and spec.dtype != "string"


class Rows:
    """Draws as `recipe` does. All own places of a mask are open, so that its end is where a row ends."""

    def __init__(self, recipe: Recipe, rng: np.random.Generator, filling: Filling) -> None:
        self.filling = filling
        self.specs = recipe.signature.inputs
        self._recipe = recipe
        self._rng = rng

    def draw(self, lengths: Mapping[str, int], *, rows: int = 1, loudness: float = 1.0) -> dict[str, np.ndarray]:
        """Rows that end with something else than padding. Raises NothingUnlike."""
        recipe = replace(self._recipe, sizes={**self._recipe.sizes, **lengths})
        for _ in range(_REDRAWS):
            drawn = make_inputs.make(recipe, self._rng, rows=rows, loudness=loudness)
            for spec in self.specs:
                if is_mask(spec):
                    drawn[spec.name] = np.full_like(drawn[spec.name], 1 - self.filling.value(spec))
            if all(self._ends_unlike(spec, drawn[spec.name]) for spec in self.specs):
                return drawn
        raise NothingUnlike

    def _ends_unlike(self, spec: TensorSpec, array: np.ndarray) -> bool:
        value = self.filling.value(spec)
        return all(bool((array.take(-1, axis) != value).any()) for axis in self.filling.axes(spec))

    def with_other_values(self, row: Row, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The row with other, louder values in what is padded, and all else as it was."""
        for _ in range(_REDRAWS):
            other = self.draw(lengths, loudness=8.0)
            changed = {spec.name: other[spec.name] if self._is_read(spec) else row[spec.name] for spec in self.specs}
            if any(not np.array_equal(changed[name], row[name]) for name in changed):
                return changed
        raise NothingUnlike

    def together(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """One batch, each row padded to the longest."""
        return {spec.name: self._joined(spec, [row[spec.name] for row in rows]) for spec in self.specs}

    def with_other_padding(self, rows: Sequence[Row], lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The same batch with legal values where the padding was, masks excepted: who looks there answers otherwise."""
        batch = self.together(rows)
        other = self.draw(lengths, rows=len(rows), loudness=8.0)
        for spec in self.specs:
            if self._is_read(spec):
                parts = [np.zeros(row[spec.name].shape, bool) for row in rows]
                is_padding = joined(parts, batch[spec.name].shape[1:], True)
                batch[spec.name] = np.where(is_padding, other[spec.name], batch[spec.name])
        return batch

    def _is_read(self, spec: TensorSpec) -> bool:
        return bool(self.filling.axes(spec)) and not is_mask(spec)

    def _joined(self, spec: TensorSpec, parts: Sequence[np.ndarray]) -> np.ndarray:
        if not self.filling.axes(spec):
            return np.concatenate(parts)
        tail = tuple(max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True))
        return joined(parts, tail, self.filling.value(spec))
