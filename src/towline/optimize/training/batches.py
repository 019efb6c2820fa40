"""Mini-batches of mapped rows, in an order that the seed alone decides: only the rows of one batch are in memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from towline.optimize.rows import UNKNOWN, Rows


@dataclass(frozen=True)
class Batch:
    """`inputs` in the order of the module's arguments; `truth` as Rows has it, None without any; `answers` are a teacher's, by name."""

    inputs: tuple[Tensor, ...]
    truth: Tensor | None
    answers: Mapping[str, Tensor]

    @property
    def size(self) -> int:
        return len(self.inputs[0])


def names_of(module: Any, rows: Rows) -> tuple[str, ...]:
    """The inputs in the order of the module's arguments: as a Trainable tells it, else as the rows have them."""
    return tuple(getattr(module, "inputs", None) or rows.inputs)


def known(truth: np.ndarray) -> np.ndarray:
    """Per row, whether anything is known of it: a class, or a target that is no NaN."""
    flat = truth.reshape(len(truth), -1)
    told: np.ndarray = (flat != UNKNOWN).any(axis=1) if truth.dtype.kind in "iu" else ~np.isnan(flat).all(axis=1)
    return told


def rows_to_fit(rows: Rows, *, labelled_only: bool) -> np.ndarray:
    """The places of the rows to fit to."""
    places = np.arange(rows.to_fit)
    return places[known(rows.truth[: rows.to_fit])] if labelled_only and rows.truth is not None else places


def batch_count(rows: int, size: int) -> int:
    return math.ceil(rows / size)


def seed_of(seed: int, *place: int) -> int:
    """A seed for this place of a training: what chance decides there follows from it alone, wherever a run was resumed."""
    words = "/".join(map(str, (seed, *place))).encode()
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "big") >> 1


def epoch_order(places: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The places of each batch of one epoch. All have the same size, give or take one: no last one of a single row, which no batch norm
    can be fitted to."""
    shuffled = np.random.default_rng(seed_of(seed, epoch)).permutation(places)
    # Within a batch in the order of the file, which a disk reads quicker.
    return [np.sort(part) for part in np.array_split(shuffled, batch_count(len(places), size))]


def gather(rows: Rows, names: Sequence[str], places: np.ndarray) -> Batch:
    """These rows, copied from their files."""
    return Batch(
        tuple(torch.from_numpy(np.ascontiguousarray(rows.inputs[name][places])) for name in names),
        None if rows.truth is None else torch.from_numpy(np.ascontiguousarray(rows.truth[places])),
        {name: torch.from_numpy(np.ascontiguousarray(array[places])) for name, array in rows.answers.items()},
    )


def held_back(rows: Rows, names: Sequence[str], size: int) -> Iterator[Batch]:
    """The rows for validation, in their order."""
    places = np.arange(rows.to_fit, rows.count)
    for part in np.array_split(places, max(1, batch_count(len(places), size))):
        if len(part):
            yield gather(rows, names, part)
