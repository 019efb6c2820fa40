"""Named columns -> one float matrix: missing values, categories, standardised numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from towline.core import steps
from towline.core.steps import Chain
from towline.engines.processing.errors import bad_row


class TableReader:
    """Reads one chain: one input [N] per column to a matrix [N, features] for the graph's input `chain.source.into`."""

    def __init__(self, chain: Chain, dtype: np.dtype) -> None:
        assert isinstance(chain.source, steps.Tabular)
        self._source = chain.source
        self._dtype = dtype
        self._fills = {step.column: step for step in chain.steps if isinstance(step, steps.Fill)}
        self._categories = {step.column: _Vocabulary(step) for step in chain.steps if isinstance(step, steps.Category)}
        self._scales = {
            column: (mean, std)
            for step in chain.steps
            if isinstance(step, steps.Standardise)
            for column, mean, std in zip(step.columns, step.mean, step.std, strict=True)
        }

    def read(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        matrix = np.concatenate([self._column(name, inputs[name]) for name in self._source.columns], axis=1)
        return {self._source.into: np.ascontiguousarray(matrix, dtype=self._dtype)}

    def _column(self, name: str, values: np.ndarray) -> np.ndarray:
        fill = self._fills.get(name)
        vocabulary = self._categories.get(name)
        if vocabulary is not None:
            return vocabulary.encode([value or (fill.word or "").encode() if fill else value for value in values])
        column = values.astype(np.float64)
        if fill is not None and fill.number is not None:
            column = np.where(np.isnan(column), fill.number, column)
        mean, std = self._scales.get(name, (0.0, 1.0))
        return ((column - mean) / std)[:, None]


class _Vocabulary:
    def __init__(self, step: steps.Category) -> None:
        self._step = step
        self._places = {value.encode(): place for place, value in enumerate(step.values)}

    def encode(self, words: list[bytes]) -> np.ndarray:
        step = self._step
        places = np.array([self._place(bytes(word), row) for row, word in enumerate(words)], np.int64)
        if step.encode == "index":
            return places.astype(np.float64)[:, None]
        # One column more for the unknown, which is cut off again.
        return np.eye(len(step.values) + 1)[places][:, :-1]

    def _place(self, word: bytes, row: int) -> int:
        place = self._places.get(word, -1)
        if place < 0 and self._step.unknown == "error":
            known = ", ".join(repr(value) for value in self._step.values[:8])
            raise bad_row("UNKNOWN_CATEGORY", self._step.column, row, f"is none of the {len(self._step.values)} known values ({known}).")
        return place
