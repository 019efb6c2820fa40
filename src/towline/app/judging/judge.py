"""Test a version on data: accuracy, speed, memory, repeatability, robustness; judge it by gates; and write it all down as evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from towline.app.fetching.fetch import fetched
from towline.app.home import actor, opened_store
from towline.app.judging.disturbed import Disturbed
from towline.app.judging.measure import judging, metric_of
from towline.app.judging.own_metric import check_own, is_own, own_figures
from towline.core.event import Event
from towline.core.manifest import Manifest
from towline.core.refs import Ref, parse_ref
from towline.core.version import Version, check_sealed
from towline.verify.accuracy import Progress, answer_all, figures_of, judged, reading_of
from towline.verify.contract import Runner
from towline.verify.data.dataset import DataSet
from towline.verify.data.opening import open_data
from towline.verify.gates import Gate, Verdict, read_gates, verdicts
from towline.verify.metrics.classification import Classified
from towline.verify.metrics.named import Metric
from towline.verify.metrics.regression import Regressed
from towline.verify.pace import Pace, pace

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker

MAX_LABEL_BYTES = 16 << 20
ROWS_PER_RUN = 64
_REPEATED_ROWS = 64
TESTED = "version.tested"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tested:
    """What a test found. `figures` by name are what gates read; `found` has the details, per class for a classifier.

    `robustness` is the `metric` (where there are labels) on the same rows after each corruption.
    """

    version: Version
    data: str
    rows: int
    figures: Mapping[str, float]
    found: Classified | Regressed | None
    pace: Pace | None
    robustness: Mapping[str, float]
    verdicts: tuple[Verdict, ...]
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    metric: Metric | None = None

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)

    def as_json(self) -> dict[str, object]:
        """Plain JSON: the data of the event, and of --json. NaN is null."""
        return {
            "rows": self.rows,
            "data": self.data,
            "figures": {name: number(value) for name, value in self.figures.items()},
            "robustness": {name: number(value) for name, value in self.robustness.items()},
            "classes": classes_json(self.found, self.labels),
            "gates": [one.as_json() for one in self.verdicts],
            "passed": self.passed,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Options:
    """`label` names the truths, `output` the answers where several could be meant; `limit` is the most rows taken (0: all).
    `metric` is what judges (measure.py: metric_of), or is measured as well; empty: accuracy, of values the mean absolute error.
    `adversarial` is how far adversarial steps may move a row, as a share of the rows' range (0: none are taken)."""

    label: str = ""
    output: str = ""
    limit: int = 0
    metric: str = ""
    speed: bool = True
    robustness: bool = True
    seed: int = 0
    adversarial: float = 0.0


def measure_version(
    ref: str | Ref,
    data: str | Path,
    *,
    gates: str | Path | Sequence[Gate] = (),
    options: Options = Options(),
    home: str | Path | None = None,
    say: Say | None = None,
    progress: Progress | None = None,
) -> Tested:
    """Run every row of `data` through a version in a worker process of its own, and record what that showed as an event.

    `data` may be a URL; `gates` is a TOML file or gates. Raises UsageError for data or gates that do not fit, VersionError for a version
    that does not load.
    """
    bounds = read_gates(Path(gates)) if isinstance(gates, str | Path) else tuple(gates)
    # A function of one's own may be of many figures: it is measured beside the others, and says nothing of robustness.
    metric = None if is_own(options.metric) else metric_of(options.metric)
    if is_own(options.metric):
        check_own(options.metric)
    say = say or silent
    with opened_store(home) as store, fetched(data, progress=say) as place:
        version = store.version(ref if isinstance(ref, Ref) else parse_ref(ref))
        with loaded(version) as worker:
            tested = _tested(version, worker, place, bounds, metric, options, say, progress)
        store.append(
            Event(
                TESTED, actor(), time.time(), name=version.name, digest=version.digest, data={"number": version.number, **tested.as_json()}
            )
        )
    return tested


@contextmanager
def loaded(version: Version) -> Iterator[LocalWorker]:
    """A worker that has loaded the version, checked against its digest."""
    from towline.serve.workers.local import LocalWorker

    check_sealed(version.path, version.digest)
    with LocalWorker.start(version.path, version.manifest) as worker:
        yield worker


def labels_of(version: Version, manifest: Manifest) -> tuple[str, ...]:
    if manifest.labels is None:
        return ()
    with (version.path / manifest.labels).open("rb") as file:
        return tuple(file.read(MAX_LABEL_BYTES).decode("utf-8").splitlines())


def opened_data(data: Path, manifest: Manifest, known: Sequence[str], options: Options) -> DataSet:
    opened = open_data(data, manifest.signature, known=known, label=options.label)
    return opened.first(options.limit) if options.limit else opened


def rows_per_run(manifest: Manifest) -> int:
    """What may share a run: a version whose rows look at one another gets them one by one, as it will in service."""
    return min(ROWS_PER_RUN, manifest.measured.max_batch) if manifest.batchable else 1


def _tested(
    version: Version,
    worker: LocalWorker,
    data: Path,
    gates: Sequence[Gate],
    metric: Metric | None,
    options: Options,
    say: Say,
    progress: Progress | None,
) -> Tested:
    manifest = version.manifest
    labels = labels_of(version, manifest)
    rows = opened_data(data, manifest, labels, options)
    reading = reading_of(manifest.signature, rows, options.output)
    size = rows_per_run(manifest)
    say(f"Answering {rows.rows:,} rows")
    answered = answer_all(worker, rows, reading, size, progress)
    found = None if rows.truth is None else judged(answered, rows.truth, len(labels))
    figures: dict[str, float] = {**(figures_of(found) if found is not None else {}), "not_finite_rows": float(answered.not_finite_rows)}
    notes = [] if rows.truth is not None else ["The data has no labels: nothing is said about right and wrong."]
    if is_own(options.metric):
        figures |= own_figures(options.metric, answered.answers, rows.truth)
    judge = judging(metric, found) if metric is not None or found is not None else None
    figures["repeats"] = float(_repeats(worker, rows, reading.output, size))
    measured = None
    if options.speed:
        say("Timing it")
        measured = pace(worker, rows.read(0, 1), rows.read(0, min(size, rows.rows)))
        figures |= measured.figures()
    figures |= {"memory_mb": worker.peak_memory_bytes() / 1e6, "size_mb": version.size_bytes / 1e6}
    robustness: dict[str, float] = {}
    if judge is not None:
        disturbed = Disturbed(version, worker, rows, reading, size, len(labels), judge)
        robustness = disturbed.by_corruptions(options.seed, say) if options.robustness else {}
        if options.adversarial and isinstance(found, Classified):
            attacks, why_not = disturbed.by_attacks(options.adversarial, say)
            robustness |= attacks
            notes += [why_not] if why_not else []
        figures |= {f"{judge.name}_{name}": value for name, value in robustness.items()}
    judged_gates = verdicts(gates, figures)
    classes = labels or rows.classes
    return Tested(version, rows.digest, rows.rows, figures, found, measured, robustness, judged_gates, classes, tuple(notes), judge)


def _repeats(runner: Runner, data: DataSet, output: str, size: int) -> bool:
    """Whether the first rows are answered the same again, to the bit."""
    inputs = data.read(0, min(_REPEATED_ROWS, size, data.rows))
    first, again = (runner.run(inputs)[output] for _ in range(2))
    return bool(np.array_equal(first, again, equal_nan=first.dtype.kind == "f"))


def classes_json(found: Classified | Regressed | None, labels: Sequence[str]) -> list[dict[str, object]]:
    if not isinstance(found, Classified):
        return []
    return [
        {
            "label": labels[place] if place < len(labels) else str(place),
            "precision": number(one.precision),
            "recall": number(one.recall),
            "f1": number(one.f1),
            "roc_auc": number(one.roc_auc),
            "support": one.support,
        }
        for place, one in enumerate(found.classes)
    ]


def number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def silent(sentence: str) -> None:
    """Nobody asked for progress."""
