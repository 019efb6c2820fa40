"""Write arrays as .npz: any name, any size, strings as bytes, never a pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np


def write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Not numpy.savez: an array may be called "file"."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, without_objects(array), allow_pickle=False)


def without_objects(array: np.ndarray) -> np.ndarray:
    """Strings as bytes of one length."""
    return array.astype(bytes) if array.dtype == object else array
