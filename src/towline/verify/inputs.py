"""Make legal random inputs for a signature: seeded, symbolic dims consistent, from bold values to tame ones. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from towline.core import dtypes
from towline.core.manifest import Signature, TensorSpec

# Sizes tried for symbolic dims other than the batch: sequences first, then pictures, whose pooling needs room.
_SIZES = (8, 64, 224, 32, 1)
_PICTURE_SIZES = (64, 224, 8, 32, 1)
_PICTURE_RANK = 4
# No single random input is larger than this, whatever sizes are tried.
MAX_INPUT_BYTES = 64 << 20
_UNKNOWN_RANK_SHAPE = (1,)
_REDRAWS = 16
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)


@dataclass(frozen=True)
class Style:
    """How bold values are. Each kind is `wide`, `small` or a constant; integers are what an engine most often refuses, as indices."""

    name: str
    floats: str = "wide"
    integers: str = "wide"


STYLES = (
    Style("random values"),
    Style("integers of 0 and 1", integers="small"),
    Style("integers of 0", integers="zeros"),
    Style("integers of 1", integers="ones"),
    Style("values between 0 and 1", floats="small", integers="small"),
    Style("zeros", floats="zeros", integers="zeros"),
)


@dataclass(frozen=True)
class Recipe:
    """How to make inputs the engine takes: the sizes of symbols, the style, or a user's sample whose values are drawn from."""

    signature: Signature
    sizes: Mapping[str, int]
    style: Style = STYLES[0]
    pattern: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def batch(self) -> str:
        return batch_symbol(self.signature)


def batch_symbol(signature: Signature) -> str:
    """The one symbol that leads the shape of every input, or nothing."""
    leading = {spec.shape[0] if spec.shape else None for spec in signature.inputs}
    symbol = leading.pop() if len(leading) == 1 else None
    return symbol if isinstance(symbol, str) else ""


def recipes(signature: Signature) -> Iterator[Recipe]:
    """Recipes from bold to tame. Only those that differ for this signature."""
    free = _free_symbols(signature)
    kinds = {_kind(spec) for spec in signature.inputs}
    styles = list(dict.fromkeys(_reduced(style, kinds) for style in STYLES))
    for size in _sizes(signature) if free else (1,):
        for style in styles:
            recipe = Recipe(signature, dict.fromkeys(free, size), style)
            if all(_bytes(spec, recipe, 1) <= MAX_INPUT_BYTES for spec in signature.inputs):
                yield recipe


def _reduced(style: Style, kinds: set[str]) -> Style:
    """Styles that differ only in kinds the signature has not are one style."""
    floats = style.floats if "float" in kinds else ""
    integers = style.integers if kinds & {"integer", "string", "bool"} else ""
    names = {(other.floats if floats else "", other.integers if integers else ""): other.name for other in reversed(STYLES)}
    return Style(names[floats, integers], floats, integers)


def _sizes(signature: Signature) -> tuple[int, ...]:
    return _PICTURE_SIZES if any(len(spec.shape or ()) >= _PICTURE_RANK for spec in signature.inputs) else _SIZES


def _free_symbols(signature: Signature) -> list[str]:
    batch = batch_symbol(signature)
    return sorted({dim for spec in signature.inputs for dim in spec.shape or () if isinstance(dim, str) and dim != batch})


def from_sample(signature: Signature, sample: Mapping[str, np.ndarray]) -> Recipe:
    """A recipe that draws from a user's sample, which fits the signature (samples.py)."""
    sizes = {}
    batch = batch_symbol(signature)
    for spec in signature.inputs:
        for dim, size in zip(spec.shape or (), sample[spec.name].shape, strict=False):
            if isinstance(dim, str) and dim != batch:
                sizes[dim] = size
    return Recipe(signature, sizes, Style("values of the sample"), dict(sample))


def make(recipe: Recipe, rng: np.random.Generator, *, rows: int = 1, loudness: float = 1.0) -> dict[str, np.ndarray]:
    """One request of `rows` unlike rows. `loudness` multiplies floats that are drawn wide."""
    return {spec.name: _array(spec, recipe, rng, rows, loudness) for spec in recipe.signature.inputs}


def row_bytes(recipe: Recipe) -> int:
    """Bytes that one row takes in all inputs together."""
    return sum(_bytes(spec, recipe, 1) for spec in recipe.signature.inputs)


def take(inputs: Mapping[str, np.ndarray], rows: Sequence[int] | slice) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}


def with_loud_rows(
    recipe: Recipe, inputs: Mapping[str, np.ndarray], rng: np.random.Generator, rows: Sequence[int]
) -> dict[str, np.ndarray]:
    """The same batch with other, larger values in some rows: whoever looks at its batch-mates answers otherwise.

    Where the recipe knows only one value, the batch comes back as it was.
    """
    count = len(next(iter(inputs.values())))
    changed = {name: array.copy() for name, array in inputs.items()}
    # Few values, as those of a bool, may come again as they were.
    for _ in range(_REDRAWS):
        other = make(recipe, rng, rows=count, loudness=8.0)
        for name, array in changed.items():
            array[list(rows)] = other[name][list(rows)]
        if any(not np.array_equal(changed[name], array) for name, array in inputs.items()):
            break
    return changed


def _shape(spec: TensorSpec, recipe: Recipe, rows: int) -> tuple[int, ...]:
    if spec.shape is None:
        return recipe.pattern[spec.name].shape if spec.name in recipe.pattern else _UNKNOWN_RANK_SHAPE
    sizes = {**recipe.sizes, recipe.batch: rows}
    return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape)


def _bytes(spec: TensorSpec, recipe: Recipe, rows: int) -> int:
    return math.prod(_shape(spec, recipe, rows)) * (dtypes.BY_NAME[spec.dtype].size or 16)


def _kind(spec: TensorSpec) -> str:
    dtype = dtypes.BY_NAME[spec.dtype]
    if dtype.is_float:
        return "float"
    return "integer" if dtype.is_integer else spec.dtype


def _array(spec: TensorSpec, recipe: Recipe, rng: np.random.Generator, rows: int, loudness: float) -> np.ndarray:
    shape = _shape(spec, recipe, rows)
    if spec.name in recipe.pattern:
        values = _like(recipe.pattern[spec.name], shape, rng, loudness)
    elif _kind(spec) == "float":
        values = _floats(shape, recipe.style.floats, rng, loudness)
    elif _kind(spec) == "string":
        values = _strings(shape, recipe.style.integers, rng)
    else:
        values = _integers(spec.dtype, shape, recipe.style.integers, rng)
    return np.ascontiguousarray(values, dtype=dtypes.BY_NAME[spec.dtype].numpy)


def _like(pattern: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator, loudness: float) -> np.ndarray:
    """Drawn from a sample: floats spread around its own, everything else picked among the values it holds."""
    if pattern.dtype.kind != "f":
        return rng.choice(pattern.reshape(-1), shape) if pattern.size else np.zeros(shape, pattern.dtype)
    rows = pattern[rng.integers(0, len(pattern), shape[0])] if pattern.ndim and len(pattern) and shape[1:] == pattern.shape[1:] else None
    if rows is None:
        return rng.choice(pattern.reshape(-1), shape) if pattern.size else np.zeros(shape, pattern.dtype)
    return np.asarray(rows * rng.uniform(0.5, 1.5, shape) * loudness)


def _floats(shape: tuple[int, ...], how: str, rng: np.random.Generator, loudness: float) -> np.ndarray:
    if how == "zeros":
        return np.zeros(shape)
    if how == "small":
        return rng.random(shape)
    return rng.normal(0.0, loudness, shape)


def _integers(dtype: str, shape: tuple[int, ...], how: str, rng: np.random.Generator) -> np.ndarray:
    if how in ("zeros", "ones"):
        return np.full(shape, 1 if how == "ones" else 0)
    if how == "small" or dtype == "bool":
        return rng.integers(0, 2, shape)
    # Bytes are mostly pixels; wider integers mostly indices or counts, where only small ones are sure to be legal.
    return rng.integers(0, 256, shape) if dtype == "uint8" else rng.integers(1, 10, shape)


def _strings(shape: tuple[int, ...], how: str, rng: np.random.Generator) -> np.ndarray:
    values = np.empty(math.prod(shape), dtype=object)
    for index in range(values.size):
        if how == "wide":
            values[index] = rng.choice(_LETTERS, rng.integers(1, 9)).tobytes()
        else:
            values[index] = b"%d" % {"ones": 1, "zeros": 0}.get(how, int(rng.integers(0, 2)))
    return values.reshape(shape)


def renamed(signature: Signature, symbols: Mapping[str, str]) -> Signature:
    """The signature with some symbols replaced."""

    def spec(old: TensorSpec) -> TensorSpec:
        if old.shape is None:
            return old
        return TensorSpec(old.name, old.dtype, tuple(symbols.get(dim, dim) if isinstance(dim, str) else dim for dim in old.shape))

    return Signature(tuple(map(spec, signature.inputs)), tuple(map(spec, signature.outputs)))


def for_signature(recipe: Recipe, signature: Signature) -> Recipe:
    return replace(recipe, signature=signature)
