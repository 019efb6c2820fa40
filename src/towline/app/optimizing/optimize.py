"""Find a version that is smaller or faster on this machine and still right: try passes, judge each beside the version, keep what failed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from towline.app.fetching.fetch import fetched
from towline.app.home import actor, opened_store
from towline.app.importing.sealing import ImportResult, Order
from towline.app.judging.compare import Side, side
from towline.app.judging.comparison import Comparison
from towline.app.judging.judge import Options, Say, labels_of, loaded, number, opened_data, silent
from towline.app.judging.measure import judging, metric_of, of_both
from towline.app.optimizing.candidates import CALIBRATION_ROWS, calibration
from towline.app.optimizing.journal import Journal
from towline.app.optimizing.lessons import Lessons as Lessons
from towline.app.optimizing.lessons import taught_student, write_lessons
from towline.app.optimizing.limits import Limits as Limits
from towline.app.optimizing.losses import losses_of
from towline.app.optimizing.searching import Search
from towline.app.optimizing.validating import judge_of
from towline.app.optimizing.workshop import Materials, OutOfTime, Workshop
from towline.core.cpu import cpu_kind
from towline.core.errors import UsageError
from towline.core.event import Event
from towline.core.refs import Ref, parse_ref
from towline.core.store import Store
from towline.core.version import Version
from towline.optimize.base import Chain, Pass
from towline.optimize.distill import students_to_try
from towline.optimize.plan import Situation, chosen, known_names, trained_names
from towline.optimize.plan import Tried as Tried
from towline.optimize.process import write_calibration
from towline.optimize.rows import open_rows
from towline.optimize.sensitivity import Sensitivity
from towline.optimize.stored import Stored
from towline.optimize.training.settings import Training as Training
from towline.verify.accuracy import judged
from towline.verify.data.dataset import DataSet
from towline.verify.metrics.named import Metric as Metric

OPTIMIZED = "version.optimized"


@dataclass(frozen=True)
class Optimized:
    """`tried` in order, `guilty` where layers were looked into; `result` is None where nothing was worth handing over.

    `beside` is the best beside the version it came from, and `limits` are those it kept; `metric` judged, None without labels."""

    version: Version
    rows: int
    tried: tuple[Tried, ...]
    guilty: tuple[Sensitivity, ...]
    best: Tried | None
    result: ImportResult | None
    stopped: str = ""
    beside: Comparison | None = None
    limits: Limits = Limits()  # noqa: RUF009
    notes: tuple[str, ...] = ()
    metric: Metric | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "version": str(self.version),
            "rows": self.rows,
            "metric": None if self.metric is None else self.metric.as_json(),
            "tried": [one_json(one) for one in self.tried],
            "guilty": [guilty_json(one) for one in self.guilty],
            "best": None if self.best is None else one_json(self.best),
            "result": None if self.result is None else {"version": str(self.result.version), "digest": self.result.version.digest},
            "stopped": self.stopped,
            "notes": list(self.notes),
        }


def one_json(one: Tried) -> dict[str, object]:
    figures = {"fits": one.fits, "speedup": one.speedup, "size_ratio": one.size_ratio, "drop": number(one.drop), "because": one.because}
    told = {"agreement": number(one.agreement), "notes": list(one.notes)}
    return {"pass": one.tried.name, "settings": one.tried.settings, **figures, **told}


def evidence(best: Tried, metric: Metric | None) -> dict[str, object]:
    """What the event of the version that was handed over says."""
    return {**one_json(best), "metric": None if metric is None else metric.as_json()}


def guilty_json(one: Sensitivity) -> dict[str, object]:
    return {**vars(one), "sqnr_db": number(one.sqnr_db), "loss": None if one.loss is None else vars(one.loss)}


def optimize(
    ref: str | Ref,
    data: str | Path,
    *,
    lessons: Lessons = Lessons(),  # noqa: B008
    passes: Sequence[Pass | Chain] = (),
    only: Collection[str] = (),
    limits: Limits = Limits(),  # noqa: B008
    metric: str = "",
    training: Training = Training(),  # noqa: B008
    budget_s: float = 600.0,
    options: Options = Options(),  # noqa: B008
    home: str | Path | None = None,
    say: Say | None = None,
) -> Optimized:
    """Try what may make the version smaller or faster, on rows that it was not calibrated with, and publish the best that keeps the limits.

    The first rows of `data` (a fifth, 200 at most) calibrate, the others judge. With `lessons` to learn from, channels are pruned, students
    taught and int8 trained for, each as `training` says. `passes` names exactly what is tried, `only` the names of passes that may be.
    `metric` (or `options.metric`) is what judges: a figure's name, or FILE.py:FUNCTION, which runs in a process of its own.
    What was tried is an event about the version, and is remembered: a search that was stopped goes on where it was. Equal seeds
    (`options.seed`) propose and train the same. Raises UsageError for data that is too little, or that data or a metric do not fit.
    """
    chains = tuple(one if isinstance(one, Chain) else Chain((one,)) for one in passes)
    _check(lessons, only, chains)
    judge = metric_of(metric or options.metric)
    limits = limits.beside(judge)
    with opened_store(home) as store, fetched(data, progress=say or silent) as place:
        version = store.version(ref if isinstance(ref, Ref) else parse_ref(ref))
        if version.manifest.engine != "onnxruntime" or version.manifest.handler is not None:
            raise UsageError(f"{version} is run by {version.engine}; only ONNX models are optimised so far.", code="NOT_OPTIMIZABLE")
        whole = opened_data(place, version.manifest, labels_of(version, version.manifest), options)
        training = replace(training, seed=options.seed)
        given = (taught_student(lessons.student, training),) if lessons.student else ()
        wanted = _Wanted(lessons, chains, given, frozenset(only), limits, judge, training, options, budget_s)
        with store.stage() as work:
            found = _searched(store, version, whole, wanted, work, say or silent)
        facts = {"number": version.number, **found.as_json()}
        store.append(Event(OPTIMIZED, actor(), time.time(), name=version.name, digest=version.digest, data=facts))
    return found


def _check(lessons: Lessons, only: Collection[str], chains: Sequence[Chain]) -> None:
    """Raises UsageError for a wish that could only be passed over in silence, or undone by the next."""
    for early, after in (pair for chain in chains for pair in itertools.pairwise(chain.passes)):
        if isinstance(early, Stored):
            what = f"'{early.name}' comes last in a chain, and '{after.name}' comes after it, which would find no weights or undo it."
            raise UsageError(what, field="passes", hint=f"Write Chain(({type(after).__name__}(…), {type(early).__name__}(…))).")
    for word, given in (("student", lessons.student), ("teacher", lessons.teacher)):
        if given and not lessons:
            raise UsageError(f"A {word} needs rows to train on.", field=word, hint="Give some: --train PATH, or --unlabelled PATH.")
    unknown = sorted(set(only) - set(known_names()))
    if unknown:
        raise UsageError(f"There is no pass '{unknown[0][:64]}'.", field="only", hint=f"There is: {', '.join(known_names())}.")
    if only and not lessons and trained_names().issuperset(only):
        raise UsageError(f"'{min(only)}' needs rows to train on.", field="only", hint="Give some: --train PATH.")


@dataclass(frozen=True)
class _Wanted:
    """What the caller asked for; `given` are the students among it, `metric` is None where no other than the usual one judges."""

    lessons: Lessons
    chains: Sequence[Chain]
    given: Sequence[Pass]
    only: frozenset[str]
    limits: Limits
    metric: Metric | None
    training: Training
    options: Options
    budget_s: float


def _searched(store: Store, version: Version, whole: DataSet, wanted: _Wanted, work: Path, say: Say) -> Optimized:
    from towline.serve.workers.local import LocalWorker

    until_s = time.monotonic() + wanted.budget_s
    held_back = min(CALIBRATION_ROWS, whole.rows // 5)
    if not held_back:
        raise UsageError(f"The data has {whole.rows} rows; some calibrate and others judge, so at least 5 are needed.", code="BAD_DATA")
    order = Order(store, version.name, None, actor(), f"optimised from {version}", LocalWorker.start, say)
    say(f"Reading {held_back} rows to calibrate with")
    some = whole.first(held_back)
    calibrating = write_calibration(calibration(version, some), work)
    rows, learned = write_lessons(store, version, wanted.lessons, wanted.options, work / "rows", say) if wanted.lessons else (None, "")
    asked = f"{version.digest} {whole.digest} {learned} {wanted.limits} {wanted.training}"
    # Verdicts by one metric say nothing of another, nor of the same function in a changed file.
    journal = Journal.of(store.aside("optimize"), asked if wanted.metric is None else f"{asked} {wanted.metric}")
    judging = whole.after(held_back)
    with loaded(version) as worker:
        base = side(version, version.manifest, worker, judging, output=wanted.options.output, say=say)
        classes = len(labels_of(version, version.manifest))
        metric = _judge(base, classes, wanted.metric)
        losses = losses_of(version.manifest, classes, some, base.answered.reading.output, rows, metric)
        materials = Materials(work, journal.keep, calibrating, rows, losses, judge_of(wanted.metric, losses, rows))
        workshop = Workshop(order, version, base, wanted.limits.terms(metric), materials, journal, until_s)
        search = Search(workshop, _situation(version, wanted, rows), wanted.chains)
        stopped = _run(search)
        best = chosen(workshop.tried)
        seen = workshop.in_full(best) if best is not None else None
    result = workshop.published(best, evidence(best, metric)) if best is not None else None
    if not stopped:
        journal.forget()
    tried, guilty = tuple(workshop.tried), tuple(search.guilty)
    return Optimized(version, judging.rows, tried, guilty, best, result, stopped, seen, wanted.limits, tuple(search.notes), metric)


def _judge(base: Side, classes: int, asked: Metric | None) -> Metric | None:
    """What judges, once it has judged the version beside itself. Raises UsageError for what has no value on these rows."""
    truth = base.data.truth
    if truth is None and asked is None:
        return None
    found = None if truth is None else judged(base.answered, truth, classes)
    metric = judging(asked, found)
    assert truth is not None
    assert found is not None
    value, *_ = of_both(metric, (base.answered, base.answered), (found, found), truth, classes, seed=0) if metric.source else (0.0,)
    if not np.isfinite(value):
        what = f"{metric.source} says that {base.version} is {value}: nothing can be judged by that."
        raise UsageError(what, code="METRIC_DOES_NOT_FIT", field="metric", hint="A metric is a finite number.")
    return metric


def _run(search: Search) -> str:
    """Why it stopped before its end; empty when it came there."""
    try:
        search.run()
    except OutOfTime:
        return "The time was up."
    except KeyboardInterrupt:
        return "It was interrupted."
    return ""


def _situation(version: Version, wanted: _Wanted, rows: Path | None) -> Situation:
    if rows is None:
        return Situation(cpu_kind(), seed=wanted.options.seed, only=wanted.only)
    model = version.path / version.manifest.model_file
    students = students_to_try(model, open_rows(rows).output, wanted.training)
    return Situation(cpu_kind(), wanted.training, (*wanted.given, *students), wanted.options.seed, wanted.only)
