"""Read example inputs from one file, from a table, or from a folder of files: requests that fit the signature."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from towline.core.errors import ImportRefused, UsageError
from towline.core.manifest import Signature
from towline.verify.array_files import HINT
from towline.verify.inputs import batch_symbol
from towline.verify.samples import MAX_SAMPLE_BYTES, load_sample

MAX_FILES = 64
# A table comes in requests of so many rows, as far as so many requests go.
_ROWS = 256
_MOST_REQUESTS = 16


def load_samples(path: Path, signature: Signature) -> list[dict[str, np.ndarray]]:
    """At least one request: of each file of a folder in the order of their names (up to 64 files, 256 MiB), of the rows of a .csv, whose
    header names inputs or whose columns are the features of the one there is, or of any file that verify/samples.py reads.

    Raises ImportRefused that names the file and what does not fit.
    """
    if path.is_dir():
        return _folder(path, signature)
    if path.suffix.lower() == ".csv":
        return _table(path, signature)
    return [load_sample(path, signature)]


def _folder(folder: Path, signature: Signature) -> list[dict[str, np.ndarray]]:
    files = sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    size_bytes = sum(one.stat().st_size for one in files)
    if not files:
        raise _refused(f"the folder '{folder.name}' holds no files")
    if len(files) > MAX_FILES or size_bytes > MAX_SAMPLE_BYTES:
        most = f"at most {MAX_FILES} of {MAX_SAMPLE_BYTES} bytes are taken"
        raise _refused(f"the folder '{folder.name}' holds {len(files)} files of {size_bytes} bytes; {most}")
    found = []
    for one in files:
        try:
            found += load_samples(one, signature)
        except ImportRefused as refusal:
            raise _refused(f"'{one.name}': {refusal.message.partition(': ')[2].rstrip('.')}") from None
    return found


def _table(path: Path, signature: Signature) -> list[dict[str, np.ndarray]]:
    from towline.verify.data.opening import open_data

    try:
        data = open_data(path, signature)
    except UsageError as refusal:
        raise _refused(refusal.message.partition(": ")[2].rstrip(".")) from None
    rows = _ROWS if batch_symbol(signature) else 1
    return [batch.inputs for batch in data.first(rows * _MOST_REQUESTS).batches(rows)]


def _refused(what: str) -> ImportRefused:
    return ImportRefused(
        f"The sample does not fit: {what}.",
        code="BAD_SAMPLE",
        field="sample",
        hint=f"{HINT} A sample may also be a .csv with a header line, or a folder of such files.",
    )
