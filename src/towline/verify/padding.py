"""Prove along which dims a shorter row may be padded to share a run with longer ones: its answer stays what it is alone.

What may be padded is tried, never told: with 0 behind each row, and 0 in an attention mask, or 1 where a mask marks what is not to be read.
Two experiments, as for batches (independence.py). A row alone against the same row padded: there kernels round otherwise. And, with
the shape kept, other values in the padding and in the mates: there a row must keep its bits. Where it does not because the model knows
padding by its value, the first experiment has to agree more closely.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from towline.core.errors import EngineError
from towline.core.manifest import CutOutput, PaddedInput, Padding
from towline.verify.guarded import Guarded
from towline.verify.independence import next_power_of_two
from towline.verify.inputs import MAX_INPUT_BYTES, Recipe, for_signature, renamed, row_bytes
from towline.verify.padding_rows import Filling, NothingUnlike, Rows, is_mask
from towline.verify.padding_trial import Alone, Departs, Lengths, Trial

# A longer row is never padded: trying it would take the time and the memory of the import for what few requests are.
MOST_LENGTH = 1024
_LEAST_BASE = 4
# A run of twice the length costs at most this much more: attention grows with the square.
_DEARER = 4.0


@dataclass(frozen=True)
class Found:
    """What may be padded, and, by symbol, why other dims may not."""

    padding: tuple[Padding, ...] = ()
    because: dict[str, str] = field(default_factory=dict)


@dataclass
class _Proven:
    """A trial that passed, with the lengths it passed for and a short row to go on with."""

    trial: Trial
    short: Alone
    shortest: dict[str, int]
    longest: dict[str, int]


@dataclass(frozen=True)
class Bench:
    """What every trial works with. `repeats`: the widest gap of plain repeats, by output. `unnamed`: the symbols that import made up for
    dims without a name. `climb_s` is how long ever longer rows are tried, as long as `may_grow` says that there is memory for them.
    """

    runner: Guarded
    recipe: Recipe
    rng: np.random.Generator
    repeats: Mapping[str, float]
    clock: Callable[[], float]
    may_grow: Callable[[], bool]
    climb_s: float
    unnamed: Collection[str] = ()


def find_padding(bench: Bench) -> Found:
    """Try each dim of the inputs beyond the first that has no fixed size. The recipe's rows were shown to keep to themselves."""
    proven: _Proven | None = None
    because: dict[str, str] = {}
    bench = replace(bench, recipe=_with_one_length(bench.recipe, bench.unnamed))
    for dim in _dims(bench.recipe):
        dims = (*(proven.shortest if proven else ()), dim)
        tried = _tried(bench, dims)
        if isinstance(tried, str):
            because[dim] = tried
        else:
            proven = tried
    if proven is None:
        return Found((), because)
    _climb(bench, proven)
    _shrink(proven)
    return Found(tuple(_written(dim, proven) for dim in proven.shortest), because)


def _with_one_length(recipe: Recipe, unnamed: Collection[str]) -> Recipe:
    """Dims without a name that stand at the same place of several inputs taken for one, as ids and their mask have: the proof holds for
    rows in which they are equal, and only such are ever padded."""
    first: dict[tuple[int, int], str] = {}
    names: dict[str, str] = {}
    for spec in recipe.signature.inputs:
        for axis, dim in enumerate(spec.shape or ()):
            if axis and isinstance(dim, str) and dim in unnamed:
                names[dim] = first.setdefault((axis, recipe.sizes[dim]), dim)
    return for_signature(recipe, renamed(recipe.signature, names))


def _dims(recipe: Recipe) -> list[str]:
    """The symbols beyond the batch, in the order of the inputs."""
    dims = [dim for spec in recipe.signature.inputs for dim in (spec.shape or ())[1:] if isinstance(dim, str)]
    return [dim for dim in dict.fromkeys(dims) if dim != recipe.batch]


def _tried(bench: Bench, dims: tuple[str, ...]) -> _Proven | str:
    """The first guess that holds for all `dims` at once, or why the plainest does not."""
    carriers = [spec for spec in bench.recipe.signature.inputs if set(dims) & set(spec.shape or ())]
    strings = next((spec.name for spec in carriers if spec.dtype == "string"), None)
    if strings is not None:
        return f"input '{strings}' holds strings, which are not padded"
    because = ""
    for in_masks in (0, 1) if any(map(is_mask, carriers)) else (0,):
        try:
            return _proven(bench, Filling(dims, in_masks))
        except Departs as departs:
            because = because or str(departs)
        except NothingUnlike:
            because = because or f"no values unlike the padding could be made to prove it ({bench.recipe.style.name})"
        except EngineError as error:
            because = because or f"the engine refuses another length: {error.message}"
    return because


def _proven(bench: Bench, filling: Filling) -> _Proven:
    """Raises Departs, NothingUnlike, EngineError."""
    base = {dim: max(bench.recipe.sizes[dim], _LEAST_BASE) for dim in filling.dims}
    trial = Trial(bench.runner, Rows(bench.recipe, bench.rng, filling), bench.repeats)
    own = [trial.alone(lengths) for lengths in _own_lengths(base)]
    trial.find_cuts(own)
    # Of an odd length and of an even one, and by far more than what is a row's own: what is thinned out shows.
    for longest in ({dim: 2 * size - 3 for dim, size in base.items()}, {dim: 4 * size for dim, size in base.items()}):
        trial.compare(own, longest)
    trial.check_moved(own)
    shortest = {dim: min(one.lengths[dim] for one in own) for dim in base}
    return _Proven(trial, own[-1], shortest, longest)


def _own_lengths(base: Lengths) -> Iterator[dict[str, int]]:
    """Unlike ones; of several dims each turns by one more, so that an output tells whose length it has."""
    turns = {dim: _turned([size, size - 1, size // 2 + 1, size // 4 + 1], place) for place, (dim, size) in enumerate(base.items())}
    yield from (dict(zip(turns, lengths, strict=True)) for lengths in zip(*turns.values(), strict=True))


def _turned(sizes: list[int], by: int) -> list[int]:
    return sizes[by % len(sizes) :] + sizes[: by % len(sizes)]


def _climb(bench: Bench, proven: _Proven) -> None:
    """Twice the length as long as it is taken and nothing departs; then the longest that the engine takes, if it refuses more."""
    refused = MOST_LENGTH + 1
    reached = max(proven.longest.values())
    last_s, until_s = 0.0, bench.clock() + bench.climb_s
    while reached + 1 < refused and bench.clock() + _DEARER * last_s < until_s and bench.may_grow():
        length = min(2 * reached, MOST_LENGTH) if refused > MOST_LENGTH else (reached + refused) // 2
        if _bytes(bench.recipe, proven, length) > MAX_INPUT_BYTES:
            refused = length
            continue
        began_s = bench.clock()
        try:
            _reach(proven, length)
        except EngineError:
            refused = length
            continue
        except (Departs, NothingUnlike):
            return
        reached, last_s = length, bench.clock() - began_s


def _bytes(recipe: Recipe, proven: _Proven, length: int) -> int:
    """Of the three rows that are put together for that length."""
    return 3 * row_bytes(replace(recipe, sizes={**recipe.sizes, **dict.fromkeys(proven.longest, length)}))


def _shrink(proven: _Proven) -> None:
    """Down to a single element, where that is taken and answered alike."""
    trial, least = proven.trial, dict.fromkeys(proven.shortest, 1)
    try:
        trial.compare([trial.alone(least)], proven.short.lengths)
        proven.shortest = least
    except (EngineError, Departs, NothingUnlike):
        return


def _reach(proven: _Proven, length: int) -> None:
    """Take a row of more than half that length, and a short one, to that length; the proof is extended when both keep their answers."""
    trial = proven.trial
    longest = dict.fromkeys(proven.longest, length)
    trial.compare([proven.short, trial.alone(dict.fromkeys(longest, 3 * length // 5))], longest)
    proven.longest = longest


def _written(dim: str, proven: _Proven) -> Padding:
    trial, filling = proven.trial, proven.trial.rows.filling
    inputs = [
        PaddedInput(spec.name, axis, filling.value(spec))
        for spec in trial.rows.specs
        for axis, carried in filling.axes(spec).items()
        if carried == dim
    ]
    outputs = [CutOutput(name, axis) for (name, axis), carried in trial.cuts.items() if carried == dim]
    gap = next_power_of_two(trial.widest) if trial.widest else 0.0
    return Padding(dim, tuple(inputs), tuple(outputs), proven.shortest[dim], proven.longest[dim], gap)
