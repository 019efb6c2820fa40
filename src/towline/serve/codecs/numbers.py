"""Large JSON arrays of numbers -> float arrays, by simdjson: 3x quicker than lists of floats. Others explain what it declines. Pure."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import simdjson

from towline.core import dtypes
from towline.core.manifest import TensorSpec
from towline.serve.codecs.check import element_count

# Below this msgspec is quicker.
MIN_BYTES = 4096
# A parser keeps about 14 bytes of address space per byte of the largest body it has read: larger ones get a parser of their own.
_KEPT_BYTES = 4 << 20
# What numbers and the space around them are made of. What is left of a plain body tells its shape: `{"instancs":[[,,],[,,]]}`.
_NUMBERS = b"0123456789+-.eE \t\r\n"
# Everything simdjson and its binding raise: for what is no JSON, no number, too large, or too deep.
_DECLINED = (ValueError, TypeError, RuntimeError, KeyError, IndexError, MemoryError, RecursionError)


class _Parsers(threading.local):
    """A parser may read one document at a time."""

    @cached_property
    def kept(self) -> simdjson.Parser:
        return simdjson.Parser()


_parsers = _Parsers()


class FloatReader:
    """Reads float arrays of any number of rows, each of the same fixed shape, alone or as the one member of an object.

    It takes less than JSON allows, and never more: a body in plain form, of numbers only. Numbers round as they do elsewhere.
    """

    def __init__(self, spec: TensorSpec, tail: Iterable[Any], key: str = "") -> None:
        self._dtype = dtypes.BY_NAME[spec.dtype].numpy
        self._tail = tuple(map(int, tail))
        self._size = element_count(self._tail)
        self._key = key
        self._prefix = f'{{"{key}":['.encode().translate(None, _NUMBERS) if key else b"["
        self._suffix = b"]}" if key else b"]"

    @staticmethod
    def takes(spec: TensorSpec) -> bool:
        return spec.dtype in ("float16", "float32", "float64")

    @cached_property
    def _row(self) -> bytes:
        """A row without its numbers."""
        row = b""
        for dim in reversed(self._tail):
            row = b"[" + b",".join([row] * dim) + b"]"
        return row

    def read(self, body: bytes) -> np.ndarray | None:
        """The array [rows, *tail]; None for what is not in plain form, not of this shape, wrong, or out of the dtype's range."""
        # Each number takes a digit and a comma: a row that cannot be in the body is not made to compare with.
        if len(body) < 2 * self._size or not self._size:
            return None
        rows = self._rows(body.translate(None, _NUMBERS))
        if not rows:
            return None
        parser = _parsers.kept if len(body) <= _KEPT_BYTES else simdjson.Parser()
        try:
            document: Any = parser.parse(body)
            numbers = document[self._key] if self._key else document
            # A copy: the parser may be used again.
            wide = np.frombuffer(numbers.as_buffer(of_type="d"), np.float64)
        except _DECLINED:
            return None
        if wide.size != rows * self._size:
            return None
        with np.errstate(over="ignore"):
            array = wide.astype(self._dtype, copy=False)
        # JSON has no infinity: what became one was out of range.
        return array.reshape(rows, *self._tail) if np.isfinite(array).all() else None

    def _rows(self, structure: bytes) -> int:
        """How many rows of the right shape there are, and nothing else; 0 when there is something else."""
        row, around = self._row, len(self._prefix) + len(self._suffix)
        rows, left = divmod(len(structure) - around + 1, len(row) + 1)
        if left or rows < 1 or structure != b"".join((self._prefix, b",".join([row] * rows), self._suffix)):
            return 0
        return rows
