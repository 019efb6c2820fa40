"""Measure whether the rows of a batch keep to themselves: every row alone, in batches of several sizes, beside unlike mates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from towline.verify import inputs as make_inputs
from towline.verify.guarded import Guarded
from towline.verify.independence import Gaps, gap_between, magnitude
from towline.verify.inputs import Recipe


@dataclass(frozen=True)
class Proof:
    """Gaps by output, and what already settles it: a sentence, or nothing."""

    gaps: dict[str, Gaps]
    because: str = ""


def prove(runner: Guarded, recipe: Recipe, rng: np.random.Generator, sizes: Sequence[int], gaps: dict[str, Gaps]) -> Proof:
    """Measure, over several batch sizes, how a row's answer moves with its mates and with the size."""
    rows = make_inputs.make(recipe, rng, rows=max(sizes))
    alone = [runner.run(make_inputs.take(rows, slice(index, index + 1))) for index in range(max(sizes))]
    for size in sizes:
        batch = make_inputs.take(rows, slice(0, size))
        together = runner.run(batch)
        wrong = next((name for name, array in together.items() if array.ndim == 0 or len(array) != size), None)
        if wrong is not None:
            return Proof(gaps, f"output '{wrong}' has shape {list(together[wrong].shape)} for a batch of {size}")
        gaps = _with_size(gaps, together, alone[:size])
        for kept in (range(0, size, 2), range(1, size, 2)):
            others = [index for index in range(size) if index not in kept]
            louder = make_inputs.with_loud_rows(recipe, batch, rng, others)
            if all(np.array_equal(louder[name], batch[name]) for name in batch):
                return Proof(gaps, f"no unlike rows could be made to prove it ({recipe.style.name})")
            gaps = _with_mates(gaps, together, runner.run(louder), list(kept))
    return Proof(gaps)


def _with_size(gaps: dict[str, Gaps], together: Mapping[str, np.ndarray], alone: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Gaps]:
    found = {}
    for name, gap in gaps.items():
        widest = max(gap_between(together[name][index : index + 1], single[name]) for index, single in enumerate(alone))
        scale = max(magnitude(single[name]) for single in alone)
        found[name] = replace(gap, size=max(gap.size, widest), scale=max(gap.scale, scale))
    return found


def _with_mates(
    gaps: dict[str, Gaps], together: Mapping[str, np.ndarray], louder: Mapping[str, np.ndarray], kept: Sequence[int]
) -> dict[str, Gaps]:
    return {
        name: replace(gap, mates=max(gap.mates, gap_between(together[name][kept], louder[name][kept]) if louder[name].ndim else np.inf))
        for name, gap in gaps.items()
    }
