"""Write answers to a data set as they come: CSV, JSON lines, Parquet, or .npz. Numbers read back are those that were written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

import numpy as np

from towline.core.errors import MissingExtra, UsageError
from towline.core.npz import write_npz
from towline.core.spelling import spelled

# A .npz is written at the end: this many bytes of answers are kept for it.
MAX_KEPT_BYTES = 8 << 30
# A group of Parquet is read whole, and costs a few hundred bytes of its own.
ROWS_PER_GROUP = 8192
# What a cell that is a formula begins with, in one spreadsheet or another.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")

Answers = Mapping[str, np.ndarray]


class Sink(Protocol):
    """Takes batches in order. `names` tells rows to people, `labels` has a word per row, or nothing at all."""

    def write(self, names: Sequence[str], answers: Answers, labels: Sequence[str]) -> None: ...

    def finish(self) -> None:
        """After the last batch: writes what is left."""
        ...

    def close(self) -> None:
        """Lets go of the file, finished or not; the file is the caller's to close."""
        ...


@contextmanager
def sink_for(ending: str, file: BinaryIO) -> Iterator[Sink]:
    """Of one of ENDINGS. Raises MissingExtra for Parquet without pyarrow."""
    sink = _SINKS[ending](file)
    try:
        yield sink
        sink.finish()
    finally:
        sink.close()


class _Csv:
    """A column per element: `y` of one element per row, `y_0`, `y_1`, … of several, those of a matrix row by row.

    Of all formats this is the one that people open in a spreadsheet: no word of a stranger's may run there (see harmless).
    """

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._rows = csv.writer(self._text, lineterminator="\n")
        # Python quotes a carriage return only from 3.13 on; bare, it would end the row for most readers.
        self._quoted = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._columns: list[str] = []

    def write(self, names: Sequence[str], answers: Answers, labels: Sequence[str]) -> None:
        flat = {name: array.reshape(len(array), -1) for name, array in answers.items()}
        columns = [column for name, array in flat.items() for column in _columns(name, answers[name].ndim, array.shape[1])]
        if not self._columns:
            self._columns = columns
            self._row(["row", *map(harmless, columns), *(["label"] if labels else [])])
        elif columns != self._columns:
            raise refused(f"the rows have answers of unlike size, {len(self._columns)} and {len(columns)} elements; a CSV has columns")
        told = {name: _cells(array) for name, array in flat.items()}
        for place, row in enumerate(names):
            label = [harmless(labels[place])] if labels else []
            self._row([harmless(row), *(value for part in told.values() for value in part[place]), *label])

    def finish(self) -> None:
        """Every row is out already."""

    def close(self) -> None:
        self._text.detach()

    def _row(self, cells: Sequence[Any]) -> None:
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (self._quoted if has_return else self._rows).writerow(cells)


class _Lines:
    """`{"row": …, "outputs": {name: …}, "label": …}` in each line. NaN and infinities are those words."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, names: Sequence[str], answers: Answers, labels: Sequence[str]) -> None:
        told = {name: array.tolist() for name, array in answers.items()}
        for place, row in enumerate(names):
            line: dict[str, Any] = {"row": row, "outputs": {name: spelled(values[place]) for name, values in told.items()}}
            if labels:
                line["label"] = labels[place]
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")

    def finish(self) -> None:
        """Every line is out already."""

    def close(self) -> None:
        """Nothing is held."""


class _Parquet:
    """A column per output, of lists where a row's answer is no single element; `row`, and `label` where there are labels."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ModuleNotFoundError:
            raise MissingExtra("Writing Parquet needs pyarrow.", hint="Install it: pip install 'towline[parquet]'") from None
        self._arrow, self._parquet, self._file = pyarrow, parquet, file
        self._writer: Any = None
        self._waiting: list[Any] = []

    def write(self, names: Sequence[str], answers: Answers, labels: Sequence[str]) -> None:
        arrow = self._arrow
        columns = {"row": arrow.array(list(names), arrow.string())}
        columns |= {name: self._column(array) for name, array in answers.items()}
        columns |= {"label": arrow.array(list(labels), arrow.string())} if labels else {}
        batch = arrow.table(columns)
        self._writer = self._writer or self._parquet.ParquetWriter(self._file, batch.schema)
        self._waiting.append(batch)
        if sum(one.num_rows for one in self._waiting) >= ROWS_PER_GROUP:
            self._flush()

    def finish(self) -> None:
        self._flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._arrow.concat_tables(self._waiting))
            self._waiting = []

    def _column(self, array: np.ndarray) -> Any:
        kind = self._arrow.binary() if array.dtype.kind in "OS" else self._arrow.from_numpy_dtype(array.dtype)
        for _ in array.shape[1:]:
            kind = self._arrow.list_(kind)
        # Of one element per row without a detour by way of Python's numbers.
        return self._arrow.array(array if array.ndim == 1 and array.dtype.kind != "S" else array.tolist(), kind)


class _Arrays:
    """An array per output, as one run over all rows would have answered. It is written at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parts: dict[str, list[np.ndarray]] = {}
        self._kept_bytes = 0

    def write(self, names: Sequence[str], answers: Answers, labels: Sequence[str]) -> None:
        for name, array in answers.items():
            parts = self._parts.setdefault(name, [])
            if parts and parts[0].shape[1:] != array.shape[1:]:
                raise refused(f"output '{name}' has shape {list(parts[0].shape[1:])} in one row and {list(array.shape[1:])} in another")
            parts.append(array)
            self._kept_bytes += array.nbytes
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise refused(f"the answers take more than {MAX_KEPT_BYTES >> 30} GiB")

    def finish(self) -> None:
        write_npz(self._file, {name: np.concatenate(parts) for name, parts in self._parts.items()})

    def close(self) -> None:
        """Nothing is held."""


_SINKS: dict[str, Callable[[BinaryIO], Sink]] = {".csv": _Csv, ".jsonl": _Lines, ".parquet": _Parquet, ".npz": _Arrays}
ENDINGS = tuple(_SINKS)


def harmless(word: str) -> str:
    """With an apostrophe before it where a spreadsheet would take the word for a formula and run it; a number stays one. Pure.

    Names of pictures, labels and a model's own words may all come from a stranger (CWE-1236).
    """
    if not word.startswith(_FORMULA_SIGNS):
        return word
    try:
        float(word)
    except ValueError:
        return f"'{word}"
    return word


def _cells(array: np.ndarray) -> list[list[Any]]:
    told = [[spelled(value) for value in row] for row in array.tolist()]
    return [[harmless(word) for word in row] for row in told] if array.dtype.kind in "OSU" else told


def refused(what: str) -> UsageError:
    return UsageError(f"The answers cannot be written so: {what}.", code="BAD_OUTPUT", field="output", hint="Write them as .jsonl.")


def _columns(name: str, axes: int, elements: int) -> list[str]:
    return [name] if axes == 1 or elements == 1 else [f"{name}_{place}" for place in range(elements)]
