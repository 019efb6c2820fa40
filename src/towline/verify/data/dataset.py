"""A data set: rows of inputs that fit a signature, and what is known to be true of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from towline.core.errors import ImportRefused, UsageError
from towline.core.manifest import Signature
from towline.verify.samples import fitted

HINT = (
    "Data is a .npz with an array per input and one called labels, a .csv or .parquet with a column called label, "
    "a .jsonl with inputs and label in each line, or a folder with one subfolder of pictures per class."
)
# Names that a column or array of truths goes by, where none is given.
LABEL_NAMES = ("label", "labels", "target", "targets", "class", "y")


@dataclass(frozen=True)
class Batch:
    """Rows in a row of the data set. `truth` is int64 [rows] for classes, float64 [rows, …] for values, None where nothing is known."""

    start: int
    inputs: dict[str, np.ndarray]
    truth: np.ndarray | None

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class DataSet:
    """`read(start, stop)` gives the inputs of some rows, so that pictures are only opened when it is their turn.

    `classes` names the classes in the order of `truth`, where the data does; `names` tells a row to people, `digest` the whole.
    """

    rows: int
    read: Callable[[int, int], dict[str, np.ndarray]]
    digest: str
    truth: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    names: Callable[[int], str] = str

    def batches(self, rows: int) -> Iterator[Batch]:
        """In order; the last may be shorter."""
        for start in range(0, self.rows, rows):
            stop = min(start + rows, self.rows)
            yield Batch(start, self.read(start, stop), None if self.truth is None else self.truth[start:stop])

    def first(self, rows: int) -> DataSet:
        """The same with at most so many rows."""
        kept = min(rows, self.rows)
        truth = None if self.truth is None else self.truth[:kept]
        return DataSet(kept, self.read, f"{self.digest} first {kept}" if kept < self.rows else self.digest, truth, self.classes, self.names)

    def after(self, rows: int) -> DataSet:
        """The rows behind the first `rows`."""
        truth = None if self.truth is None else self.truth[rows:]

        def read(start: int, stop: int) -> dict[str, np.ndarray]:
            return self.read(start + rows, stop + rows)

        return DataSet(self.rows - rows, read, f"{self.digest} after {rows}", truth, self.classes, lambda row: self.names(row + rows))


def in_memory(
    arrays: Mapping[str, np.ndarray], digest: str, truth: np.ndarray | None, classes: tuple[str, ...] = (), what: str = "row"
) -> DataSet:
    """Of arrays whose first axis is the row."""
    rows = {name: len(array) for name, array in arrays.items()} | ({"the labels": len(truth)} if truth is not None else {})
    if len(set(rows.values())) != 1:
        told = ", ".join(f"{name} has {count}" for name, count in rows.items())
        raise refused(f"the number of rows differs: {told}")

    def read(start: int, stop: int) -> dict[str, np.ndarray]:
        return {name: np.ascontiguousarray(array[start:stop]) for name, array in arrays.items()}

    return DataSet(next(iter(rows.values())), read, digest, truth, classes, lambda row: f"{what} {row + 1}")


def truth_of(values: Sequence[object] | np.ndarray, known: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Truths as numbers, and the classes they name. Words are looked up among `known`, the version's labels, where it has any.

    Whole numbers are classes, one a row; several of a row, and any other number, are values to come near to.
    """
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        # A column of them is what a table or a framework makes of one a row.
        return array.reshape(len(array) if array.size == len(array) else array.shape).astype(np.int64), tuple(known)
    if array.dtype.kind == "f":
        whole = array.ndim == 1 and np.isfinite(array).all() and (array == np.floor(array)).all() and array.size and array.min() >= 0
        # A CSV without decimals means classes; 3.0 of a .npy was stored as a float on purpose.
        return (array.astype(np.int64), tuple(known)) if whole and not isinstance(values, np.ndarray) else (array.astype(np.float64), ())
    words = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in array.reshape(-1)]
    classes = tuple(known) or tuple(sorted(set(words)))
    places = {name: place for place, name in enumerate(classes)}
    unknown = next((word for word in words if word not in places), None)
    if unknown is not None:
        shown = ", ".join(classes[:5])
        raise refused(f"'{unknown[:64]}' is no label of this version; it has {shown}{', …' if len(classes) > 5 else ''}")
    return np.array([places[word] for word in words], np.int64), classes


def fitting(given: object, signature: Signature) -> dict[str, np.ndarray]:
    """Arrays as rows of this signature, cast where nothing is lost but precision. Raises UsageError that names what does not fit."""
    try:
        return fitted(given, signature)
    except ImportRefused as refusal:
        raise refused(refusal.message.partition(": ")[2].rstrip(".")) from None


def refused(what: str, *, hint: str = HINT) -> UsageError:
    return UsageError(f"The data cannot be used: {what}.", code="BAD_DATA", field="data", hint=hint)
