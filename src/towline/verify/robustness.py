"""What noise, blur, light and compression do to a version's answers: the same rows, changed a little. Pure but for decoding pictures.

After Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions", at a mild severity.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from towline.core.errors import MissingExtra
from towline.core.manifest import Signature
from towline.verify.data.dataset import DataSet

# As shares of the spread of the values in the rows: their standard deviation for noise, their range for light.
NOISE_SHARE = 0.1
LIGHT_SHARE = 0.1
BLUR_SIGMA = 1.0
JPEG_QUALITY = 30
_PICTURE_RANK = 3
_MOST_CHANNELS = 4

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Corruption:
    """One way to change the rows of one input."""

    name: str
    change: Change


def corruptions(signature: Signature) -> dict[str, tuple[Corruption, ...]]:
    """What can be done to each input: floats get noise, pictures among them also blur and light, encoded pictures all of it and JPEG."""
    found: dict[str, tuple[Corruption, ...]] = {}
    for spec in signature.inputs:
        if spec.dtype in ("float32", "float64", "float16"):
            pictures = (Corruption("blur", _blurred), Corruption("brightness", _brighter))
            found[spec.name] = (Corruption("noise", _noisy), *(pictures if len(spec.shape or ()) > _PICTURE_RANK else ()))
    if not found and len(signature.inputs) == 1 and signature.inputs[0].dtype == "string":
        changes: tuple[tuple[str, Change], ...] = (("noise", _noisy), ("blur", _blurred), ("brightness", _brighter), ("jpeg", _same))
        found[signature.inputs[0].name] = tuple(Corruption(name, _encoded(name, change)) for name, change in changes)
    return found


def corrupted(data: DataSet, corruption: str, by_input: Mapping[str, tuple[Corruption, ...]], *, seed: int = 0) -> DataSet:
    """The same rows after one corruption of every input that knows it."""

    def read(start: int, stop: int) -> dict[str, np.ndarray]:
        inputs = data.read(start, stop)
        for name, ways in by_input.items():
            way = next((one for one in ways if one.name == corruption), None)
            if way is not None:
                # By place, so that a batch of another size changes a row alike.
                inputs[name] = way.change(inputs[name], np.random.default_rng((seed, start)))
        return inputs

    return DataSet(data.rows, read, f"{data.digest} {corruption}", data.truth, data.classes, data.names)


def _noisy(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rows + rng.normal(0, NOISE_SHARE * float(rows.std() or 1.0), rows.shape)).astype(rows.dtype)


def _brighter(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rows + LIGHT_SHARE * float(rows.max() - rows.min())).astype(rows.dtype)


def _blurred(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian, along height and width: axes 1 and 2 where channels come last, else the last two."""
    last = rows.ndim > _PICTURE_RANK and rows.shape[-1] <= _MOST_CHANNELS and rows.shape[1] > _MOST_CHANNELS
    reach = np.arange(-3, 4)
    kernel = np.exp(-(reach**2) / (2 * BLUR_SIGMA**2))
    kernel /= kernel.sum()
    blurred = rows.astype(np.float64)
    for axis in (1, 2) if last else (-2, -1):
        widths = [(0, 0)] * rows.ndim
        widths[axis] = (3, 3)
        padded = np.pad(blurred, widths, mode="edge")
        size = rows.shape[axis]
        blurred = sum(weight * np.take(padded, np.arange(at, at + size), axis=axis) for at, weight in enumerate(kernel))
    return blurred.astype(rows.dtype)


def _same(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rows


def _encoded(name: str, change: Change) -> Change:
    """The change between decoding a picture and encoding it again: without loss, but for the one that is about that."""

    def through(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        try:
            from PIL import Image
        except ModuleNotFoundError:
            raise MissingExtra("Changing pictures needs Pillow.", hint="Install it: pip install 'towline[image]'") from None
        told = np.empty(rows.shape, dtype=object)
        for place, raw in enumerate(rows.reshape(-1)):
            with Image.open(io.BytesIO(raw), formats=("JPEG", "PNG", "WEBP")) as picture:
                pixels = np.asarray(picture.convert("RGB"), np.float64)[None]
            changed = np.clip(change(pixels, rng)[0], 0, 255).astype(np.uint8)
            out = io.BytesIO()
            if name == "jpeg":
                Image.fromarray(changed).save(out, "JPEG", quality=JPEG_QUALITY)
            else:
                Image.fromarray(changed).save(out, "PNG", compress_level=1)
            told.reshape(-1)[place] = out.getvalue()
        return told

    return through
