"""Random crops of the pictures that come with scikit-image and scikit-learn, as MobileNetV2 was trained to see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

MEAN, DEVIATION = (np.array(each, np.float32) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def crops(pictures: Path, count: int, *, seed: int = 0) -> np.ndarray:
    """float32 [count, 3, 224, 224]: every picture in turn, a square of half its shorter side or more."""
    random = np.random.default_rng(seed)
    whole = [Image.open(path).convert("RGB") for path in sorted(pictures.iterdir())]
    return np.stack([_crop(whole[place % len(whole)], random) for place in range(count)])


def _crop(picture: Image.Image, random: np.random.Generator) -> np.ndarray:
    width, height = picture.size
    side = int(min(width, height) * random.uniform(0.5, 1))
    left, top = random.integers(0, width - side + 1), random.integers(0, height - side + 1)
    square = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BILINEAR)
    return ((np.asarray(square, np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)
