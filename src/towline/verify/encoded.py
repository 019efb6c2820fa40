"""Make encoded inputs for declared processing: small pictures, short sounds, sentences, rows of a table. Seeded, no library but numpy."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from towline.core import dtypes, steps
from towline.core.manifest import Signature, TensorSpec
from towline.core.steps import Chain, Source
from towline.verify import inputs as make_inputs

ROWS = 12
SINGLES = 3
# Of four letters each, and one token in every English vocabulary: texts of as many words are as long, however they are cut up.
_WORDS = ("time", "year", "life", "hand", "part", "work", "week", "case", "good", "last", "long", "high", "next", "tree", "door", "blue")
_PICTURE_SIDES = (40, 64)
_SOUND_S = (0.3, 0.6)


class Maker(Protocol):
    """Makes one row; a `wide` one stands alone, and may be less like the others than rows of a batch."""

    def __call__(self, rng: np.random.Generator, *, wide: bool = False) -> object: ...


@dataclass(frozen=True)
class Encoded:
    """Requests that fit the outer signature.

    `pattern` has many unlike rows of like size, to draw batches from: rows of unlike size run apart anyway. `singles` are requests of
    one row; `heaviest` is one row that takes the most memory to read, or nothing.
    """

    pattern: dict[str, np.ndarray]
    singles: tuple[dict[str, np.ndarray], ...]
    heaviest: dict[str, np.ndarray] | None


def encoded_inputs(chains: Sequence[Chain], outer: Signature, *, seed: int = 0) -> Encoded:
    """Valid requests for processing that begins with `chains`. What no chain reads is drawn at random."""
    rng = np.random.default_rng(seed)
    made: dict[str, list[object]] = {}
    alone: dict[str, list[object]] = {}
    heavy: dict[str, list[object]] = {}
    for chain in chains:
        for name, make in _makers(chain).items():
            made[name] = [make(rng) for _ in range(ROWS)]
            alone[name] = [make(rng, wide=True) for _ in range(SINGLES)]
        heavy |= _heaviest(chain)
    rest = Signature(tuple(spec for spec in outer.inputs if spec.name not in made), ())
    drawn = make_inputs.make(next(make_inputs.recipes(rest)), rng, rows=ROWS) if rest.inputs else {}
    pattern = {spec.name: drawn[spec.name] if spec.name in drawn else _column(made[spec.name], spec) for spec in outer.inputs}
    others = {spec.name: drawn[spec.name] if spec.name in drawn else _column(alone[spec.name], spec) for spec in outer.inputs}
    singles = tuple(make_inputs.take(others, slice(row, row + 1)) for row in range(SINGLES))
    heaviest = None
    if heavy:
        specs = {spec.name: spec for spec in outer.inputs}
        heaviest = {name: _column(heavy[name], specs[name]) if name in heavy else array[:1] for name, array in pattern.items()}
    return Encoded(pattern, singles, heaviest)


def with_rows(own: Mapping[str, np.ndarray], made: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows of both, where their shapes allow it; else the made ones alone."""
    if any(own[name].shape[1:] != made[name].shape[1:] for name in made):
        return dict(made)
    return {name: np.concatenate([own[name], made[name]]) for name in made}


def _makers(chain: Chain) -> dict[str, Maker]:
    """What makes one row of each input that the chain reads."""
    source = chain.source
    if isinstance(source, steps.Image):
        most = _most_side(chain, source)
        return {source.name: lambda rng, wide=False: _picture(rng, most, wide=wide)}
    if isinstance(source, steps.Audio):
        rate = next((step.rate for step in chain.steps if isinstance(step, steps.Resample)), 16_000)
        return {source.name: lambda rng, wide=False: _sound(rng, rate, source.max_seconds, wide=wide)}
    if isinstance(source, steps.Text):
        words = _words_per_text(source)
        return {source.name: lambda rng, wide=False: _sentence(rng, (1, 40) if wide else words)}
    return {name: _cell(chain, name) for name in source.columns}


def _most_side(chain: Chain, source: steps.Image) -> tuple[int, int]:
    """The greatest width and height of a made picture: what `max_pixels` and a bare `pad` take."""
    side = math.isqrt(source.max_pixels)
    pad = next((step for step in chain.steps if isinstance(step, steps.Pad)), None)
    resizes = any(isinstance(step, steps.Resize | steps.Crop) for step in chain.steps)
    return (min(pad.width, side), min(pad.height, side)) if pad and not resizes else (side, side)


def _picture(rng: np.random.Generator, most: tuple[int, int], *, wide: bool) -> bytes:
    """Coarse coloured noise: smooth enough that resizing keeps it, unlike from row to row."""
    sides = rng.integers(*_PICTURE_SIDES, 2) if wide else (_PICTURE_SIDES[0],) * 2
    width, height = (min(int(side), limit) for side, limit in zip(sides, most, strict=True))
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return png(np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)[:height, :width])


def png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 [height, width, 3]."""
    height, width, _ = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    return _png(width, height, zlib.compress(lines.tobytes(), 1))


def _png(width: int, height: int, packed: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _largest_picture(max_pixels: int) -> bytes:
    """One of as many black pixels as are taken, written line by line: the whole of it is never in memory here."""
    width = max(int(max_pixels**0.5), 1)
    height = max_pixels // width
    packer = zlib.compressobj(1)
    line = bytes(1 + 3 * width)
    packed = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return _png(width, height, packed)


def _sound(rng: np.random.Generator, rate: int, max_seconds: float, *, wide: bool) -> bytes:
    """Two tones and a little noise."""
    count = max(int(rate * min(rng.uniform(*_SOUND_S) if wide else _SOUND_S[0], max_seconds)), 1)
    at = np.arange(count) / rate
    tones = sum(rng.uniform(0.1, 0.4) * np.sin(2 * np.pi * rng.uniform(100, 1000) * at) for _ in range(2))
    return wav(np.asarray(tones + rng.normal(0, 0.01, count)), rate)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A 16-bit WAV of one channel."""
    content = (samples.clip(-1, 1) * 32_767).astype("<i2").tobytes()
    return _wav_head(rate, len(content)) + content


def _wav_head(rate: int, size: int) -> bytes:
    shape = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", 16) + shape + b"data" + struct.pack("<I", size)


def _words_per_text(source: steps.Text) -> tuple[int, int]:
    """Texts of unlike length where padding may mix rows; of equal length where unlike lengths run apart anyway."""
    return (2, 24) if source.padding == "longest" else (5, 6)


def _sentence(rng: np.random.Generator, words: tuple[int, int]) -> bytes:
    return " ".join(rng.choice(_WORDS, int(rng.integers(*words)))).encode()


def _cell(chain: Chain, name: str) -> Maker:
    """A value of one column, around what it is standardised with, or one of its words."""
    for step in chain.steps:
        if isinstance(step, steps.Category) and step.column == name:
            values = step.values
            return lambda rng, wide=False: values[int(rng.integers(len(values)))].encode()
    for step in chain.steps:
        if isinstance(step, steps.Standardise) and name in step.columns:
            place = step.columns.index(name)
            mean, std = step.mean[place], step.std[place]
            return lambda rng, wide=False: float(rng.normal(mean, std))
    return lambda rng, wide=False: float(rng.normal())


def _heaviest(chain: Chain) -> dict[str, list[object]]:
    source: Source = chain.source
    if isinstance(source, steps.Image) and not any(isinstance(step, steps.Pad) for step in chain.steps):
        return {source.name: [_largest_picture(source.max_pixels)]}
    return {}


def _column(values: Sequence[object], spec: TensorSpec) -> np.ndarray:
    array = np.empty(len(values), dtypes.BY_NAME[spec.dtype].numpy)
    array[:] = values
    return array
