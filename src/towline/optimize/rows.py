"""Rows to learn from: arrays in files that are mapped, as the graph is given them, with what is known to be right and what a teacher says.

A folder holds `rows.json` and a .npy per array, whose first axis is rows. Written here before a pass is run, read by its process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from towline.optimize.base import Arrays

_TABLE = "rows.json"
# The class of a row that nobody has labelled.
UNKNOWN = -1


@dataclass(frozen=True)
class Rows:
    """`inputs` by name of the graph's input. `truth` are classes (int64, UNKNOWN where nobody knows) or targets (float32, NaN where nobody
    knows), None without any; `answers` are a teacher's to every row, by name of the graph's output; `output` names the one that answers.

    The last `held_back` rows, all labelled where any are, are for validation: nothing is fitted to them.
    """

    inputs: Mapping[str, np.ndarray]
    truth: np.ndarray | None
    answers: Mapping[str, np.ndarray]
    output: str
    held_back: int

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def to_fit(self) -> int:
        """The rows that may be fitted to: the first ones."""
        return self.count - self.held_back


def write_rows(
    folder: Path,
    batches: Iterable[tuple[Arrays, np.ndarray | None, Arrays]],
    *,
    count: int,
    output: str,
    held_back: int,
    order: np.ndarray | None = None,
) -> Path:
    """Write `count` rows that come in batches of (inputs, truth, a teacher's answers), without holding them all. Returns the folder.

    `order` has the place of each row in the files, for rows that come sorted.
    """
    folder.mkdir()
    files: dict[str, np.memmap] = {}
    table: dict[str, dict[str, str]] = {"inputs": {}, "answers": {}, "truth": {}}
    written = 0
    for inputs, truth, answers in batches:
        kinds = {"inputs": inputs, "answers": answers, "truth": {} if truth is None else {"truth": truth}}
        rows = len(next(iter(inputs.values())))
        places = slice(written, written + rows) if order is None else order[written : written + rows]
        for kind, arrays in kinds.items():
            for name, array in arrays.items():
                if name not in table[kind]:
                    table[kind][name] = f"{kind}-{len(table[kind])}.npy"
                    place = folder / table[kind][name]
                    files[table[kind][name]] = np.lib.format.open_memmap(
                        place, mode="w+", dtype=array.dtype, shape=(count, *array.shape[1:])
                    )
                files[table[kind][name]][places] = array
        written += rows
    for file in files.values():
        file.flush()
    (folder / _TABLE).write_text(json.dumps({**table, "output": output, "held_back": held_back}))
    return folder


def open_rows(folder: Path) -> Rows:
    """The rows that `write_rows` wrote, mapped and read-only."""
    table = json.loads((folder / _TABLE).read_text())

    def mapped(kind: str) -> dict[str, np.ndarray]:
        return {name: np.load(folder / file, mmap_mode="r", allow_pickle=False) for name, file in table[kind].items()}

    return Rows(mapped("inputs"), mapped("truth").get("truth"), mapped("answers"), table["output"], table["held_back"])


def labelled_batches(folder: Path, size: int, most: int) -> Iterator[Arrays]:
    """The rows held back, in whole batches of `size`, `most` of them; none where nobody knows what is right of them."""
    rows = open_rows(folder)
    if rows.truth is not None:
        for start in range(rows.to_fit, rows.count - size + 1, size)[:most]:
            yield {name: np.array(array[start : start + size]) for name, array in rows.inputs.items()}
