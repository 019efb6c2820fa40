"""Compare two versions on the same rows, in one run: what differs, by how much for sure, and whether the second may take over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from towline.app.fetching.fetch import fetched
from towline.app.home import actor, opened_store
from towline.app.judging.compared_figures import (
    paired_figures,
    relative,
    right_rows,
    unpaired,
    verdict_words,
    worst_rows,
)
from towline.app.judging.comparison import Comparison
from towline.app.judging.guilty import came_from, look_for_guilty, remedy
from towline.app.judging.judge import Options, Say, labels_of, loaded, opened_data, rows_per_run, silent
from towline.app.judging.measure import judging, metric_of
from towline.core.event import Event
from towline.core.manifest import Manifest
from towline.core.refs import Ref, parse_ref
from towline.core.version import Version
from towline.verify.accuracy import Answered, Progress, answer_all, judged, reading_of
from towline.verify.data.dataset import DataSet
from towline.verify.gates import Gate, read_gates, verdicts
from towline.verify.metrics.by_class import class_differences
from towline.verify.metrics.classification import Classified
from towline.verify.metrics.difference import agreement, mcnemar
from towline.verify.metrics.named import Metric
from towline.verify.pace import Pace, paces

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker

COMPARED = "version.compared"


def compare(
    first: str | Ref,
    second: str | Ref,
    data: str | Path,
    *,
    gates: str | Path | Sequence[Gate] = (),
    options: Options = Options(),  # noqa: B008
    home: str | Path | None = None,
    say: Say | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run the same rows through both versions and time them turn by turn. Gates read `accuracy`, `speedup`, `agreement`, … of the second,
    and `drop`, `drop_sure`: how much of `options.metric` (measure.py: metric_of) it loses, and how much at worst with 95 % confidence.

    The result is evidence on the second version's digest. Raises UsageError for data or a metric that does not fit.
    """
    metric = metric_of(options.metric)
    bounds = read_gates(Path(gates)) if isinstance(gates, str | Path) else tuple(gates)
    with opened_store(home) as store, fetched(data) as place:
        versions = tuple(store.version(ref if isinstance(ref, Ref) else parse_ref(ref)) for ref in (first, second))
        found, rows = _compared(versions, place, bounds, metric, options, say, progress)
        if (found.differs or not found.passed) and came_from(store, found.second, found.first):
            found = replace(found, remedy=remedy(found.first, data, options, found.verdicts, found.metric))
            if found.differs:
                (say or silent)("Looking for the layers that move the most")
                found = replace(found, guilty=look_for_guilty(found.first, found.second, rows))
        data_of = {"number": found.second.number, "beside": found.first.digest, **found.as_json()}
        store.append(Event(COMPARED, actor(), time.time(), name=found.second.name, digest=found.second.digest, data=data_of))
    return found


@dataclass(frozen=True)
class Side:
    """A loaded version, its data, and what it answered to all of it."""

    version: Version
    manifest: Manifest
    worker: LocalWorker
    data: DataSet
    answered: Answered


def side(
    version: Version,
    manifest: Manifest,
    worker: LocalWorker,
    data: DataSet,
    *,
    output: str = "",
    say: Say | None = None,
    progress: Progress | None = None,
) -> Side:
    """Have a loaded version answer every row."""
    if say is not None:
        say(f"{version}: answering {data.rows:,} rows")
    answered = answer_all(worker, data, reading_of(manifest.signature, data, output), rows_per_run(manifest), progress)
    return Side(version, manifest, worker, data, answered)


def beside(
    first: Side,
    second: Side,
    gates: Sequence[Gate],
    metric: Metric | None = None,
    *,
    speed: bool = True,
    seed: int = 0,
    say: Say | None = None,
) -> Comparison:
    """What two loaded versions answered, set side by side, and both timed turn by turn."""
    timed: tuple[Pace, ...] = ()
    if speed:
        if say is not None:
            say("Timing them turn by turn")
        sides = (first, second)
        workers = [one.worker for one in sides]
        alone = [one.data.read(0, 1) for one in sides]
        many = [one.data.read(0, min(rows_per_run(one.manifest), one.data.rows)) for one in sides]
        timed = paces(workers, alone, many)
    labels = [labels_of(one.version, one.manifest) for one in (first, second)]
    known = labels[0] or first.data.classes
    versions, rows, answered = (first.version, second.version), (first.data, second.data), (first.answered, second.answered)
    return _judged(versions, rows, answered, timed, max(map(len, labels)), gates, metric, seed, known)


def _compared(
    versions: tuple[Version, ...],
    data: Path,
    gates: Sequence[Gate],
    metric: Metric | None,
    options: Options,
    say: Say | None,
    progress: Progress | None,
) -> tuple[Comparison, DataSet]:
    """And the rows as the first reads them."""
    manifests = [version.manifest for version in versions]
    rows = [
        opened_data(data, manifest, labels_of(version, manifest), options) for version, manifest in zip(versions, manifests, strict=True)
    ]
    with loaded(versions[0]) as one, loaded(versions[1]) as other:
        first, second = (
            side(version, manifest, worker, part, output=options.output, say=say, progress=progress)
            for version, manifest, worker, part in zip(versions, manifests, (one, other), rows, strict=True)
        )
        return beside(first, second, gates, metric, speed=options.speed, seed=options.seed, say=say), rows[0]


def _judged(
    versions: tuple[Version, ...],
    rows: Sequence[DataSet],
    answered: Sequence[Answered],
    timed: tuple[Pace, ...],
    classes: int,
    gates: Sequence[Gate],
    metric: Metric | None,
    seed: int,
    labels: Sequence[str],
) -> Comparison:
    truth = rows[0].truth
    found = [] if truth is None else [judged(one, truth, classes) for one in answered]
    if found or metric is not None:
        metric = judging(metric, found[0] if found else None)
    is_class = answered[0].reading.kind != "values"
    scores = [one.scores(classes) for one in answered] if is_class else []
    figures = {} if metric is None or truth is None else paired_figures(found, answered, truth, classes, metric, seed)
    figures |= {"not_finite_rows": unpaired(*(float(one.not_finite_rows) for one in answered))}
    figures |= {"size_mb": unpaired(*(version.size_bytes / 1e6 for version in versions))}
    if timed:
        figures |= {
            name: unpaired(one, other) for (name, one), other in zip(timed[0].figures().items(), timed[1].figures().values(), strict=True)
        }
    agreed = agreement(*scores) if is_class else None
    right = [right_rows(one, truth) for one in scores] if truth is not None else []
    both = [one for one in found if isinstance(one, Classified)]
    by_class = class_differences(both, right, truth) if len(both) == 2 and truth is not None else ()
    gated = {name: one.second for name, one in figures.items()} | relative(figures, metric, timed, agreed, by_class)
    verdict = verdicts(gates, gated)
    worst = worst_rows(scores, truth, labels)
    return Comparison(
        versions[0],
        versions[1],
        rows[0].rows,
        figures,
        agreed,
        mcnemar(right[0], right[1]) if right else None,
        timed,
        tuple((rows[0].names(row), told) for row, told in worst),
        verdict,
        verdict_words(verdict, figures, metric),
        tuple(found),
        tuple(labels),
        tuple(rows[0].read(row, row + 1) for row, _ in worst),
        tuple(one for one in by_class if one.lost or one.won),
        metric=metric,
    )
