"""Run every row of a data set through a version, and write the answers as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from towline.app.fetching.fetch import fetched
from towline.app.home import opened_store
from towline.app.judging.judge import Say, labels_of, loaded, rows_per_run
from towline.core.errors import UsageError
from towline.core.new_file import free_place, new_file
from towline.core.refs import Ref, parse_ref
from towline.core.version import Version
from towline.verify.accuracy import Progress
from towline.verify.data.dataset import refused
from towline.verify.data.opening import open_data
from towline.verify.data.writing import ENDINGS, sink_for


@dataclass(frozen=True)
class Written:
    """`place` holds the answers to `rows` rows; `data` is the digest of what was asked."""

    version: Version
    data: str
    rows: int
    place: Path


def predict_all(
    ref: str | Ref,
    data: str | Path,
    output: str | Path,
    *,
    label: str = "",
    limit: int = 0,
    home: str | Path | None = None,
    timeout_s: float = 60.0,
    say: Say | None = None,
    progress: Progress | None = None,
) -> Written:
    """Answer every row of `data` in a worker process, as `towline test` does, into the new file `output`: .csv, .jsonl, .parquet or .npz.

    `label` names a column that is no input; `limit` is the most rows taken (0: all). The whole file is there at the end, or none.
    Raises UsageError for data that does not fit and for a file that cannot be made, VersionError for a version that does not load.
    """
    place = free_place(str(output), "--output", data)
    if place.suffix not in ENDINGS:
        raise UsageError(f"--output {output} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    with opened_store(home) as store, fetched(data) as fetched_data:
        version = store.version(ref if isinstance(ref, Ref) else parse_ref(ref))
        manifest = version.manifest
        # Truths are not asked for: words that are no label of this version do no harm.
        rows = open_data(fetched_data, manifest.signature, label=label)
        rows = rows.first(limit) if limit else rows
        labels, size = labels_of(version, manifest), rows_per_run(manifest)
        with loaded(version) as worker, new_file(place, "--output") as file, sink_for(place.suffix, file) as sink:
            if say is not None:
                say(f"Answering {rows.rows:,} rows")
            for batch in rows.batches(size):
                answers = worker.run(batch.inputs, timeout_s=timeout_s)
                _check(answers, batch.rows)
                names = [rows.names(row) for row in range(batch.start, batch.start + batch.rows)]
                sink.write(names, answers, best_labels(answers, labels))
                if progress is not None:
                    progress(batch.start + batch.rows, rows.rows)
    return Written(version, rows.digest, rows.rows, place)


def best_labels(answers: Mapping[str, np.ndarray], labels: Sequence[str]) -> list[str]:
    """The label of each row's greatest score, where exactly one output has a score per label and none is called label. Pure."""
    scores = [array for array in answers.values() if array.ndim == 2 and array.shape[1] == len(labels) and array.dtype.kind == "f"]
    if not labels or len(scores) != 1 or "label" in answers:
        return []
    return [labels[int(row.argmax())] for row in scores[0]]


def _check(answers: Mapping[str, np.ndarray], rows: int) -> None:
    for name, array in answers.items():
        if array.ndim == 0 or len(array) != rows:
            raise refused(f"output '{name}' has shape {list(array.shape)} for {rows} rows, which are not answered one by one")
