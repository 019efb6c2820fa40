"""Make the requests that a source and its conversion are compared on: the user's own, or drawn ones that respect the signature. Pure.

An input that the source itself refuses proves nothing: whoever asks the source leaves such requests out. They are many enough for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from towline.core.manifest import Signature
from towline.verify import inputs as make_inputs
from towline.verify.inputs import Recipe, Style

# Beyond these, more of the same shows nothing new.
MAX_REQUESTS = 96
MAX_TOTAL_BYTES = 128 << 20
BATCHES = (1, 2, 3, 8)
# Odd sizes for open dims beside the batch: they show padding and strides that a power of two hides.
_PICTURE_SIZES = (65, 97)
_OTHER_SIZES = (7, 13)
_PICTURE_RANK = 4
# Ordinary, quiet and loud. Much louder, a softmax in the middle of a model turns a rounding error into another answer.
_LOUDNESS = (1.0, 1e-3, 8.0)
_CHANGES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (np.ones_like, np.abs, lambda array: -np.abs(array))
# Bytes, and what makes the request once it is known to be kept.
_Wanted = tuple[int, Callable[[], dict[str, np.ndarray]]]


def parity_requests(
    signature: Signature, *, samples: Sequence[Mapping[str, np.ndarray]] = (), seed: int = 0
) -> list[dict[str, np.ndarray]]:
    """Up to 96 requests of up to 128 MiB in all, the most telling first. `samples` fit the signature (verify/samples.py): where there
    are any, they and batches drawn from them are all there is, because only the user knows which values make sense.

    The first is kept whatever its size.
    """
    rng = np.random.default_rng(seed)
    kept: list[dict[str, np.ndarray]] = []
    left_bytes = MAX_TOTAL_BYTES
    for size_bytes, make in _of_samples(signature, samples, rng) if samples else _drawn(signature, rng):
        if len(kept) == MAX_REQUESTS:
            break
        if not kept or size_bytes <= left_bytes:
            left_bytes -= size_bytes
            kept.append(make())
    return kept


def _of_samples(signature: Signature, samples: Sequence[Mapping[str, np.ndarray]], rng: np.random.Generator) -> Iterator[_Wanted]:
    for sample in samples[:MAX_REQUESTS]:
        yield sum(array.nbytes for array in sample.values()), partial(dict, sample)
    first = make_inputs.from_sample(signature, samples[0])
    yield from _in_batches(first, _rows(first), rng)


def _drawn(signature: Signature, rng: np.random.Generator) -> Iterator[_Wanted]:
    """The boldest style in every batch, the edges, each style at each size, then the other styles in every batch."""
    recipes = list(_recipes(signature))
    at_first_size = [recipe for recipe in recipes if recipe.sizes == recipes[0].sizes]
    for recipe in at_first_size[:1]:
        yield from _in_batches(recipe, _rows(recipe), rng)
        yield from _edges(recipe, rng)
    for turn, recipe in enumerate(recipes[1:]):
        yield from _in_batches(recipe, [_rows(recipe)[turn % len(BATCHES)]], rng)
    for recipe in at_first_size[1:]:
        yield from _in_batches(recipe, _rows(recipe), rng)


def _in_batches(recipe: Recipe, batches: Sequence[int], rng: np.random.Generator, *, loudness: float = 1.0) -> Iterator[_Wanted]:
    for rows in batches:
        size_bytes = rows * make_inputs.row_bytes(recipe)
        if size_bytes <= make_inputs.MAX_INPUT_BYTES:
            yield size_bytes, partial(make_inputs.make, recipe, rng, rows=rows, loudness=loudness)


def _rows(recipe: Recipe) -> tuple[int, ...]:
    """Without a batch, as many single requests."""
    return BATCHES if recipe.batch else (1,) * len(BATCHES)


def _recipes(signature: Signature) -> Iterator[Recipe]:
    """Those of the smoke test, from bold to tame, so that a model whose indices must be small takes the later ones; then odd sizes, those
    of several open dims unlike one another."""
    known = list(make_inputs.recipes(signature))
    yield from known
    styles = list(dict.fromkeys(recipe.style for recipe in known))
    symbols = sorted(known[0].sizes) if known else []
    pictures = any(len(spec.shape or ()) >= _PICTURE_RANK for spec in signature.inputs)
    sizes = _PICTURE_SIZES if pictures else _OTHER_SIZES
    for turn in range(len(sizes) if symbols else 0):
        odd = {symbol: sizes[(turn + place) % len(sizes)] for place, symbol in enumerate(symbols)}
        yield from (replace(known[0], sizes=odd, style=style) for style in styles)


def _edges(base: Recipe, rng: np.random.Generator) -> Iterator[_Wanted]:
    """Values at the edges: nothing, one, quiet, loud, and all of one sign."""
    tame = replace(base, style=Style("random values", floats="wide", integers="small"))
    for floats, integers in (("zeros", "zeros"), ("wide", "ones")):
        yield from _in_batches(replace(base, style=Style("edges", floats, integers)), (1,), rng)
    for loudness in _LOUDNESS:
        yield from _in_batches(tame, _rows(base)[1:2], rng, loudness=loudness)
    for change in _CHANGES:
        for size_bytes, make in _in_batches(tame, (1,), rng):
            yield size_bytes, partial(_changed, make, change)


def _changed(make: Callable[[], dict[str, np.ndarray]], change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    return {name: change(array) if array.dtype.kind == "f" else array for name, array in make().items()}
