"""Open a data set by what its file or folder is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from towline.core.errors import UsageError
from towline.core.manifest import Signature
from towline.core.plain_file import read_plain_file
from towline.verify.array_files import read_npz
from towline.verify.data.dataset import LABEL_NAMES, DataSet, fitting, in_memory, refused, truth_of
from towline.verify.data.tables import MAX_TABLE_BYTES, csv_data, lines_data, parquet_data

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
MAX_ROWS = 10_000_000
MAX_PICTURE_BYTES = 64 << 20


def open_data(path: Path, signature: Signature, *, known: Sequence[str] = (), label: str = "") -> DataSet:
    """The data in a .npz, .csv, .parquet or .jsonl file, or in a folder of pictures, as rows of `signature`.

    `known` are the version's labels, by which words become classes; `label` names the column or array of truths where it is called
    otherwise. Raises UsageError that says what does not fit.
    """
    if path.is_dir():
        return _folder(path, signature, known)
    end = path.suffix.lower()
    if end not in (".npz", ".csv", ".parquet", ".jsonl"):
        raise refused(f"'{path.name}' is none of .npz, .csv, .parquet and .jsonl, and no folder")
    raw = read_plain_file(path, MAX_TABLE_BYTES, lambda what: refused(f"'{path.name}': {what}"))
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    if end == ".npz":
        return _arrays(raw, digest, signature, known, label)
    if end == ".parquet":
        return parquet_data(path, digest, signature, known, label)
    return (csv_data if end == ".csv" else lines_data)(raw, digest, signature, known, label)


def _arrays(raw: bytes, digest: str, signature: Signature, known: Sequence[str], label: str) -> DataSet:
    arrays = read_npz(raw, refused, max_bytes=MAX_TABLE_BYTES)
    if label and label not in arrays:
        raise refused(f"it holds no array '{label[:64]}'; it has {', '.join(list(arrays)[:8])}")
    inputs = {spec.name for spec in signature.inputs}
    named = label or next((name for name in arrays if name.lower() in LABEL_NAMES and name not in inputs), "")
    truth, classes = truth_of(arrays.pop(named), known) if named else (None, ())
    return in_memory(fitting(arrays, signature), digest, truth, classes)


def _folder(folder: Path, signature: Signature, known: Sequence[str]) -> DataSet:
    """Pictures as they are: the version's own processing decodes them."""
    specs = signature.inputs
    if len(specs) != 1 or specs[0].dtype != "string":
        raise refused(
            f"'{folder.name}' is a folder of files, and this version takes tensors",
            hint="Import the model with the steps that read a picture: --preset imagenet, or --processing FILE.",
        )
    classes = sorted(inner.name for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))
    files = sorted(inner for name in (classes or ["."]) for inner in (folder / name).iterdir() if inner.suffix.lower() in PICTURES)
    if not files:
        raise refused(f"'{folder.name}' holds no pictures ({', '.join(PICTURES)}), and no subfolder with any")
    if len(files) > MAX_ROWS:
        raise refused(f"'{folder.name}' holds {len(files)} pictures")
    truth, names = truth_of([file.parent.name for file in files], known) if classes else (None, ())
    axes = len(specs[0].shape or ("N",))

    def read(start: int, stop: int) -> dict[str, np.ndarray]:
        rows = np.empty(stop - start, dtype=object)
        for place, file in enumerate(files[start:stop]):
            rows[place] = read_plain_file(file, MAX_PICTURE_BYTES, lambda what, file=file: _unread(file, what))  # type: ignore[misc]
        return {specs[0].name: rows.reshape(-1, *(1,) * (axes - 1))}

    return DataSet(len(files), read, _listing(folder, files), truth, names, lambda row: files[row].relative_to(folder).as_posix())


def _unread(file: Path, what: str) -> UsageError:
    return refused(f"'{file.name}': {what}")


def _listing(folder: Path, files: Sequence[Path]) -> str:
    """Of names, sizes and times of change: reading every picture twice would take as long as testing with them."""
    lines = "".join(f"{file.relative_to(folder).as_posix()} {(status := file.stat()).st_size} {status.st_mtime_ns}\n" for file in files)
    return "listing:" + hashlib.sha256(lines.encode()).hexdigest()
