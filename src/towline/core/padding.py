"""Put rows of unlike length into one array, and take what is a row's own out of an answer again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def joined(parts: Sequence[np.ndarray], tail: tuple[int, ...], value: float) -> np.ndarray:
    """The parts along axis 0 as one array [rows, *tail]; behind those that are shorter than `tail` stands `value`."""
    rows = sum(map(len, parts))
    whole = np.full((rows, *tail), value, parts[0].dtype)
    at = 0
    for part in parts:
        whole[(slice(at, at + len(part)), *map(slice, part.shape[1:]))] = part
        at += len(part)
    return whole


def own_part(answer: np.ndarray, rows: slice, lengths: Mapping[int, int]) -> np.ndarray:
    """Of an answer for several, `rows` cut back to `lengths` by axis: contiguous, and copied where it has to be."""
    place: list[Any] = [rows, *[slice(None)] * (answer.ndim - 1)]
    for axis, length in lengths.items():
        place[axis] = slice(length)
    return np.ascontiguousarray(answer[tuple(place)])
