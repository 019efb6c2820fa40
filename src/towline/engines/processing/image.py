"""Encoded pictures -> arrays, by Pillow. Imported only in a worker whose version declares it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from towline.core import steps
from towline.core.errors import EngineError, Kind
from towline.core.picture import Picture, look
from towline.core.steps import Chain
from towline.engines.processing.errors import bad_row
from towline.engines.processing.layout import arranged, normalised

# A damaged EXIF block is worth no line in the log per picture.
warnings.filterwarnings("ignore", module=r"PIL\.")

_FILTERS = {name: Pillow.Resampling[name.upper()] for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")}
# A line of one pixel's width grows without bound when its shorter side is to be 256.
_MOST_RESIZED = 16_777_216
_FORMATS = "JPEG, PNG, WebP, BMP or GIF"


class ImageReader:
    """Reads one chain: rows of encoded bytes to one array per row, for the graph's input `chain.source.into`."""

    def __init__(self, chain: Chain, dtype: np.dtype) -> None:
        assert isinstance(chain.source, steps.Image)
        self._source = chain.source
        self._dtype = dtype
        self._order = next((step.order for step in chain.steps if isinstance(step, steps.Layout)), "NHWC")
        self._on_picture: list[Callable[[Pillow.Image], Pillow.Image]] = []
        self._on_array: list[Callable[[np.ndarray], np.ndarray]] = []
        for step in chain.steps:
            self._add(step)

    def read(self, inputs: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
        name = self._source.name
        return {self._source.into: [self._row(raw, row) for row, raw in enumerate(inputs[name])]}

    def _row(self, raw: bytes, row: int) -> np.ndarray:
        picture = decoded(raw, self._source, row)
        try:
            for change in self._on_picture:
                picture = change(picture)
        except _Unfit as error:
            raise bad_row("UNFIT_IMAGE", self._source.name, row, str(error)) from None
        array = np.asarray(picture)
        if array.ndim == 2:
            array = array[..., None]
        if self._source.colour == "bgr":
            array = array[..., ::-1]
        for arrange in self._on_array:
            array = arrange(array)
        return np.ascontiguousarray(arranged(array, "HWC", self._order), dtype=self._dtype)

    def _add(self, step: steps.Before) -> None:
        if isinstance(step, steps.Resize):
            self._on_picture.append(lambda picture: _resized(picture, step))
        elif isinstance(step, steps.Crop):
            self._on_picture.append(lambda picture: _cropped(picture, step))
        elif isinstance(step, steps.Pad):
            self._on_picture.append(lambda picture: _padded(picture, step))
        elif isinstance(step, steps.Normalise):
            mean, std = np.array(step.mean, np.float32), np.array(step.std, np.float32)
            self._on_array.append(lambda array: normalised(array, step.scale, mean, std, "HWC"))


class _Unfit(Exception):
    """A picture that is whole, but not of a size the declared steps take."""


def decoded(raw: bytes, source: steps.Image, row: int = 0) -> Pillow.Image:
    """An L or RGB picture. Raises EngineError that names the row: BAD_IMAGE, IMAGE_TOO_LARGE, UNSUPPORTED_IMAGE."""
    seen = look(raw)
    if seen is None:
        what = "is empty" if not raw else f"is no {_FORMATS} picture"
        raise bad_row(
            "BAD_IMAGE", source.name, row, f"{what}.", hint="Send the bytes of the file as they are; SVG, TIFF and PDF are not read."
        )
    _check_size(seen, source, row)
    try:
        with Pillow.open(io.BytesIO(raw), formats=(seen.format,)) as picture:
            # What Pillow made of the header counts too: a GIF's frame may be larger than its screen.
            _check_size(Picture(seen.format, *picture.size), source, row)
            picture.load()
            return _in_colour(_upright(picture) if source.rotate else picture, source)
    except (EngineError, MemoryError):
        raise
    except Exception as error:
        # A decoder raises whatever the damage makes it: OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError, …
        raise bad_row("BAD_IMAGE", source.name, row, f"is a damaged {seen.format} picture: it cannot be decoded to its end.") from error


def _check_size(seen: Picture, source: steps.Image, row: int) -> None:
    if not seen.pixels:
        raise bad_row("BAD_IMAGE", source.name, row, f"is a damaged {seen.format} picture: its header tells no size.")
    if seen.pixels > source.max_pixels:
        raise bad_row(
            "IMAGE_TOO_LARGE",
            source.name,
            row,
            f"has {seen.width} x {seen.height} pixels; at most {source.max_pixels} are taken.",
            hint="Send a smaller picture.",
            kind=Kind.TOO_LARGE,
        )


def _upright(picture: Pillow.Image) -> Pillow.Image:
    return ImageOps.exif_transpose(picture) or picture


def _in_colour(picture: Pillow.Image, source: steps.Image) -> Pillow.Image:
    """8 bits per channel, without alpha: 16-bit grey by its high byte, CMYK by Pillow's formula, palettes by their colours."""
    if picture.mode.startswith("I"):
        picture = Pillow.fromarray((np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if source.background is not None and picture.has_transparency_data:
        over = picture.convert("RGBA")
        behind = Pillow.new("RGBA", over.size, (*(int(value) for value in source.background), 255))
        picture = Pillow.alpha_composite(behind, over)
    elif picture.mode == "P" and picture.has_transparency_data:
        # Straight to RGB, Pillow would warn of transparency given as bytes; the colours are the same.
        picture = picture.convert("RGBA")
    return picture.convert("L" if source.colour == "grey" else "RGB")


def _resized(picture: Pillow.Image, step: steps.Resize) -> Pillow.Image:
    size = resized_size(picture.size, step)
    return picture if size == picture.size else picture.resize(size, _FILTERS[step.filter])


def resized_size(size: tuple[int, int], step: steps.Resize) -> tuple[int, int]:
    """Width and height after the step."""
    width, height = size
    if step.width:
        return step.width, step.height
    wanted, now = (step.shorter, min(size)) if step.shorter else (step.longer, max(size))
    new = (max(1, width * wanted // now), max(1, height * wanted // now))
    if new[0] * new[1] > _MOST_RESIZED:
        raise _Unfit(f"would be {new[0]} x {new[1]} pixels once resized; at most {_MOST_RESIZED} are made.")
    return new


def _cropped(picture: Pillow.Image, step: steps.Crop) -> Pillow.Image:
    width, height = picture.size
    left, top = _margin(width, step.width), _margin(height, step.height)
    return picture.crop((left, top, left + step.width, top + step.height))


def _margin(size: int, wanted: int) -> int:
    """As torchvision does it: halves go to the even number; what is too small gets the lesser half of the padding first."""
    return round((size - wanted) / 2) if size >= wanted else -((wanted - size) // 2)


def _padded(picture: Pillow.Image, step: steps.Pad) -> Pillow.Image:
    width, height = picture.size
    if width > step.width or height > step.height:
        raise _Unfit(f"is {width} x {height} pixels where at most {step.width} x {step.height} fit.")
    canvas = Pillow.new(picture.mode, (step.width, step.height), (step.fill,) * len(picture.getbands()))
    canvas.paste(picture, ((step.width - width) // 2, (step.height - height) // 2))
    return canvas
