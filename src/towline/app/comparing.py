"""Compare two versions on the same rows, in one run: what differs, by how much for sure, and whether the second may take over."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from towline.app.home import actor, opened_store
from towline.app.judging import Options, Say, labels_of, loaded, number, opened_data, rows_per_run, yardstick
from towline.core.event import Event
from towline.core.manifest import Manifest
from towline.core.refs import Ref, parse_ref
from towline.core.version import Version
from towline.verify.accuracy import Answered, Progress, answer_all, figures_of, judged, reading_of
from towline.verify.data.dataset import DataSet
from towline.verify.gates import Gate, Verdict, read_gates, verdicts
from towline.verify.metrics.classification import Classified
from towline.verify.metrics.difference import McNemar, agreement, mcnemar, paired
from towline.verify.metrics.regression import Regressed
from towline.verify.pace import Pace, paces, throughput_ratios

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker

COMPARED = "version.compared"
WORST_ROWS = 10


@dataclass(frozen=True)
class Figure:
    """Of both versions, and second minus first. `low` and `high` bound the difference with 95 % confidence where rows were paired."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    is_paired: bool

    def as_json(self) -> dict[str, object]:
        bounds = {name: number(getattr(self, name)) for name in ("first", "second", "difference", "low", "high")}
        return {**bounds, "is_paired": self.is_paired}


@dataclass(frozen=True)
class Comparison:
    """`worst` tells rows (or classes) where the second loses most, `worst_inputs` are their inputs. `found` is of both, where there are
    labels. `verdict` is one sentence."""

    first: Version
    second: Version
    rows: int
    figures: Mapping[str, Figure]
    agreement: float | None
    mcnemar: McNemar | None
    paces: tuple[Pace, ...]
    worst: tuple[tuple[str, str], ...]
    verdicts: tuple[Verdict, ...]
    verdict: str
    found: tuple[Classified | Regressed, ...] = ()
    labels: tuple[str, ...] = ()
    worst_inputs: tuple[Mapping[str, np.ndarray], ...] = ()

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.verdicts)

    @property
    def speedup(self) -> float | None:
        """Of one row: how many times as fast the second is."""
        return self.paces[0].p50_ms / self.paces[1].p50_ms if self.paces else None

    @property
    def throughput_ratio(self) -> float:
        return throughput_ratios(*self.paces)[0] if self.paces else float("nan")

    @property
    def throughput_sure(self) -> float:
        """What three turns in four reach."""
        return throughput_ratios(*self.paces)[1] if self.paces else float("nan")

    def as_json(self) -> dict[str, object]:
        return {
            "first": str(self.first),
            "second": str(self.second),
            "rows": self.rows,
            "figures": {name: one.as_json() for name, one in self.figures.items()},
            "agreement": number(self.agreement),
            "mcnemar": None if self.mcnemar is None else vars(self.mcnemar),
            "speedup": number(self.speedup),
            "throughput_ratio": number(self.throughput_ratio),
            "worst": [list(one) for one in self.worst],
            "gates": [{"gate": str(one.gate), "value": number(one.value), "passed": one.passed} for one in self.verdicts],
            "passed": self.passed,
            "verdict": self.verdict,
        }


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
    and `drop`, `drop_sure`: how much of the yardstick it loses, and how much at worst with 95 % confidence.

    The result is evidence on the second version's digest.
    """
    bounds = read_gates(Path(gates)) if isinstance(gates, str | Path) else tuple(gates)
    with opened_store(home) as store:
        versions = tuple(store.version(ref if isinstance(ref, Ref) else parse_ref(ref)) for ref in (first, second))
        found = _compared(versions, Path(data), bounds, options, say, progress)
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


def beside(first: Side, second: Side, gates: Sequence[Gate], *, speed: bool = True, seed: int = 0, say: Say | None = None) -> Comparison:
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
    return _judged(versions, rows, answered, timed, max(map(len, labels)), gates, seed, known)


def _compared(
    versions: tuple[Version, ...], data: Path, gates: Sequence[Gate], options: Options, say: Say | None, progress: Progress | None
) -> Comparison:
    manifests = [version.manifest for version in versions]
    rows = [
        opened_data(data, manifest, labels_of(version, manifest), options) for version, manifest in zip(versions, manifests, strict=True)
    ]
    with loaded(versions[0]) as one, loaded(versions[1]) as other:
        first, second = (
            side(version, manifest, worker, part, output=options.output, say=say, progress=progress)
            for version, manifest, worker, part in zip(versions, manifests, (one, other), rows, strict=True)
        )
        return beside(first, second, gates, speed=options.speed, seed=options.seed, say=say)


def _judged(
    versions: tuple[Version, ...],
    rows: Sequence[DataSet],
    answered: Sequence[Answered],
    timed: tuple[Pace, ...],
    classes: int,
    gates: Sequence[Gate],
    seed: int,
    labels: Sequence[str],
) -> Comparison:
    truth = rows[0].truth
    found = [] if truth is None else [judged(one, truth, classes) for one in answered]
    is_class = answered[0].reading.kind != "values"
    scores = [one.scores(classes) for one in answered] if is_class else []
    figures = _figures(found, answered, truth, scores, seed) if found and truth is not None else {}
    figures |= {"not_finite_rows": _plain(*(float(one.not_finite_rows) for one in answered))}
    figures |= {"size_mb": _plain(*(version.size_bytes / 1e6 for version in versions))}
    if timed:
        figures |= {
            name: _plain(one, other) for (name, one), other in zip(timed[0].figures().items(), timed[1].figures().values(), strict=True)
        }
    agreed = agreement(*scores) if is_class else None
    right = [one.argmax(axis=1) == truth for one in scores] if is_class and truth is not None else []
    gated = {name: one.second for name, one in figures.items()} | _relative(figures, found, timed, agreed)
    verdict = verdicts(gates, gated)
    worst = _worst(scores, truth, labels)
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
        _words(verdict, figures, found),
        tuple(found),
        tuple(labels),
        tuple(rows[0].read(row, row + 1) for row, _ in worst),
    )


def _figures(
    found: Sequence[Classified | Regressed], answered: Sequence[Answered], truth: np.ndarray, scores: Sequence[np.ndarray], seed: int
) -> dict[str, Figure]:
    """All figures of both; the yardstick's difference has an interval, because it is a mean over rows."""
    both = [figures_of(one) for one in found]
    figures = {name: _plain(value, both[1][name]) for name, value in both[0].items() if name in both[1]}
    if scores:
        each = [(one.argmax(axis=1) == truth).astype(np.float64) for one in scores]
    else:
        each = [np.abs(one.answers.reshape(truth.shape) - truth).reshape(len(truth), -1).mean(axis=1) for one in answered]
    name, sure = yardstick(found[0]), paired(each[0], each[1], seed=seed)
    plain = figures[name]
    return {**figures, name: Figure(plain.first, plain.second, sure.difference, sure.low, sure.high, is_paired=True)}


def _plain(first: float, second: float) -> Figure:
    return Figure(first, second, second - first, np.nan, np.nan, is_paired=False)


def _relative(
    figures: Mapping[str, Figure], found: Sequence[Classified | Regressed], timed: Sequence[Pace], agreed: float | None
) -> dict[str, float]:
    """What only two versions have: how much is lost, and gained. A loss is positive."""
    relative: dict[str, float] = {} if agreed is None else {"agreement": agreed}
    if found:
        one = figures[yardstick(found[0])]
        loss = (-one.difference, -one.low) if isinstance(found[0], Classified) else (one.difference, one.high)
        relative |= {"drop": loss[0], "drop_sure": loss[1]}
    if timed:
        relative |= {"speedup": timed[0].p50_ms / timed[1].p50_ms, "throughput_ratio": throughput_ratios(*timed)[0]}
    size = figures["size_mb"]
    return relative | {"size_ratio": size.second / size.first}


def _worst(scores: Sequence[np.ndarray], truth: np.ndarray | None, labels: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """Rows where the two put different classes first, the surest of the second first; those it lost before those nobody can judge."""
    if not scores:
        return ()
    first, second = (one.argmax(axis=1) for one in scores)
    lost = (first != second) if truth is None else (first == truth) & (second != truth)
    sure = np.take_along_axis(scores[1], second[:, None], axis=1)[:, 0]
    order = [int(row) for row in np.argsort(-sure, kind="stable") if lost[row]][:WORST_ROWS]

    def called(place: int) -> str:
        return labels[place] if place < len(labels) else str(place)

    return tuple((row, f"{called(first[row])} became {called(second[row])}") for row in order)


def _words(found: Sequence[Verdict], figures: Mapping[str, Figure], judged_both: Sequence[Classified | Regressed]) -> str:
    failed = [one for one in found if not one.passed]
    if failed:
        return f"Not fit to take over: {'; '.join(one.words() for one in failed)}."
    if not judged_both:
        return "Without labels nothing is said about which is better."
    one = figures[yardstick(judged_both[0])]
    gain = one.difference if isinstance(judged_both[0], Classified) else -one.difference
    sure = one.low > 0 or one.high < 0
    if not sure:
        return "No difference in quality that these rows could show."
    return "The second is surely better." if gain > 0 else "The second is surely worse."
