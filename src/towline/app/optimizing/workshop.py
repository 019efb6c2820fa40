"""Where chains of passes become models: each made once, judged beside the version it came from, and published if it is the best."""

from __future__ import annotations

import hashlib
import itertools
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from towline.app.importing.sealing import ImportResult, Order, loaded_by
from towline.app.judging.compare import Side, beside, side
from towline.app.judging.comparison import Comparison
from towline.app.judging.own_metric import METRIC_FAILED
from towline.app.optimizing.candidates import draft, sealed
from towline.app.optimizing.journal import Journal, key_of
from towline.app.optimizing.limits import Terms
from towline.app.optimizing.losses import Losses
from towline.core.errors import DeadlineExceeded, EngineError, ImportRefused, MissingExtra, TowlineError, UsageError, VersionError
from towline.core.version import Version
from towline.optimize.base import Chain, Judge, Pass, Passed, PassFailed
from towline.optimize.plan import Tried, chosen
from towline.optimize.process import TIMEOUT_S, Work, run_pass, run_sensitivity
from towline.optimize.quantize import Int8
from towline.optimize.sensitivity import Sensitivity

_FAILURES = (PassFailed, ImportRefused, VersionError, EngineError, DeadlineExceeded)
# A training may take this long; what comes of a graph alone takes minutes at most.
TRAINING_TIMEOUT_S = 24 * 3600.0


class OutOfTime(Exception):
    """The budget is spent."""


@dataclass(frozen=True)
class Materials:
    """Files that passes work with. `work` goes when the search ends, `keep` outlives a kill; `rows` is None where nothing is trained,
    `losses` where nobody knows what is right of the rows that calibrate, `judge` where the loss tells how well a training goes."""

    work: Path
    keep: Path
    calibration: Sequence[str]
    rows: Path | None
    losses: Losses | None = None
    judge: Judge | None = None


@dataclass(frozen=True)
class Made:
    """What a chain wrote, and what its passes told."""

    folder: Path
    model: Path
    notes: tuple[str, ...]
    curves: dict[str, tuple[float, ...]]


class Workshop:
    """Chains of one version. `until_s` is when time is up, by the monotonic clock."""

    def __init__(
        self, order: Order, version: Version, base: Side, terms: Terms, materials: Materials, journal: Journal, until_s: float
    ) -> None:
        self._order = order
        self._version = version
        self._base = base
        self._terms = terms
        self._materials = materials
        self._journal = journal
        self._until_s = until_s
        self._source = Made(version.path, version.path / version.manifest.model_file, (), {})
        self.tried: list[Tried] = []
        # Longer chains go on from what shorter ones made, and the best is published as it was judged.
        self._made: dict[Chain, Made | TowlineError] = {}
        self._folders = (materials.work / f"pass-{number}" for number in itertools.count(1))
        self._seen: tuple[Tried, Comparison] | None = None

    def judge(self, chain: Chain) -> Tried:
        """Make it, load it, answer every row, time it beside the version; what was judged before a stop is remembered. Raises OutOfTime."""
        tried = self._journal.result(chain) or self._judged(chain)
        self.tried.append(tried)
        return tried

    def _judged(self, chain: Chain) -> Tried:
        self._order.say(f"Trying {chain.name}: {chain.settings}")
        try:
            made = self._make(chain)
            found = self._compared(chain, made)
        except MissingExtra as missing:
            # Not remembered: it may be there the next time.
            return _failed(chain, f"{missing.message} {missing.hint}")
        except (*_FAILURES, UsageError) as error:
            # A function of the user's own may fail on what one candidate answers; whatever else is misused is misused for all.
            if isinstance(error, UsageError) and error.code != METRIC_FAILED:
                raise
            tried = _failed(chain, error.message)
        else:
            tried = _tried(chain, made, found, self._terms.grain)
            if chosen([*self.tried, tried]) is tried:
                # Only of the best: a comparison holds confusion matrices and rows.
                self._seen = tried, found
        self._journal.write(tried)
        if not tried.is_worth_it:
            self._discard(chain)
        return tried

    def _discard(self, chain: Chain) -> None:
        """What nobody will ask for again; forty candidates of a large model fill a disk."""
        made = self._made.get(chain)
        if isinstance(made, Made):
            del self._made[chain]
            shutil.rmtree(made.folder, ignore_errors=True)

    def sensitivities(self, chain: Chain) -> Iterator[Sensitivity]:
        """Operator by operator of what the chain's last pass, an Int8, quantises. Raises OutOfTime, PassFailed."""
        how = chain.last
        assert isinstance(how, Int8)
        self._order.say("Looking for the operators that lose the most")
        work = Work(self._make(Chain(chain.passes[:-1])).model, self._materials.calibration, self._materials.rows)
        scratch, losses = self._materials.work / "sensitivity", self._materials.losses
        measured = run_sensitivity(how, work, scratch, losses.output if losses is not None else "")
        for number, found in enumerate(measured):
            yield found if losses is None else replace(found, loss=losses.of(scratch, number))
            if time.monotonic() > self._until_s:
                raise OutOfTime

    def in_full(self, best: Tried) -> Comparison:
        """The best beside the version, for the report: what an earlier run judged is judged again, as much time as that takes."""
        self._until_s = float("inf")
        return self._seen[1] if self._seen is not None and self._seen[0] is best else self._compared(best.tried, self._make(best.tried))

    def published(self, best: Tried, evidence: dict[str, object]) -> ImportResult:
        """The best as it was judged; one that an earlier run judged is made again, as much time as that takes."""
        self._until_s = float("inf")
        self._order.say(f"Keeping {best.tried.name}: {best.tried.settings}")
        made = self._make(best.tried)
        with self._order.store.stage() as staged:
            drafted = draft(self._version, best.tried, made.model, staged)
            gain = f"{best.speedup:.2f}x as fast as {self._version} in batches, {best.size_ratio:.2f}x its size on disk."
            return sealed(self._order, self._version, drafted, {"optimized_from": self._version.digest, **evidence}, (*made.notes, gain))

    def _compared(self, chain: Chain, made: Made) -> Comparison:
        with self._order.store.stage() as folder:
            drafted = draft(self._version, chain, made.model, folder)
            worker = loaded_by(self._order.start_worker, folder, drafted.manifest)
            try:
                candidate = side(
                    drafted.version(self._version, chain.name),
                    drafted.manifest,
                    worker,
                    self._base.data,
                    output=self._base.answered.reading.output,
                )
                return beside(self._base, candidate, self._terms.gates, self._terms.metric)
            finally:
                worker.close()

    def _make(self, chain: Chain) -> Made:
        if not chain.passes:
            return self._source
        if chain not in self._made:
            before = self._make(Chain(chain.passes[:-1]))
            try:
                self._made[chain] = self._after(before, chain)
            except (MissingExtra, *_FAILURES) as error:
                self._made[chain] = error
        made = self._made[chain]
        if isinstance(made, TowlineError):
            raise made
        return made

    def _after(self, before: Made, chain: Chain) -> Made:
        """What the chain's last pass makes of what those before it made."""
        into = next(self._folders)
        passed = self._passed(chain.last, self._work(before.model, chain), into)
        return Made(into, into / passed.model, (*before.notes, *passed.notes), {**before.curves, **passed.curves})

    def _work(self, model: Path, chain: Chain) -> Work:
        keep = self._materials.keep / hashlib.sha256(key_of(chain).encode()).hexdigest()[:16]
        if chain.last.environment:
            keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        limit_s = TRAINING_TIMEOUT_S if chain.last.environment else TIMEOUT_S
        left_s = min(self._until_s - time.monotonic(), limit_s)
        return Work(model, self._materials.calibration, self._materials.rows, keep, self._order.say, left_s, self._materials.judge)

    def _passed(self, one: Pass, work: Work, into: Path) -> Passed:
        if work.timeout_s <= 0:
            raise OutOfTime
        try:
            return run_pass(one, work, into)
        except PassFailed:
            shutil.rmtree(into, ignore_errors=True)
            if time.monotonic() >= self._until_s:
                raise OutOfTime from None
            raise


def _failed(chain: Chain, because: str) -> Tried:
    return Tried(chain, fits=False, speedup=0.0, size_ratio=0.0, drop=0.0, because=because)


def _tried(chain: Chain, made: Made, found: Comparison, grain: float) -> Tried:
    because = "" if found.passed else found.verdict
    if found.passed and round(found.throughput_ratio, 2) < 1:
        because = f"It is slower here: {found.throughput_ratio:.2f}x."
    size = found.figures["size_mb"]
    return Tried(
        chain,
        fits=found.passed,
        speedup=found.throughput_ratio,
        size_ratio=size.second / size.first,
        drop=_drop(found),
        because=because,
        speedup_sure=found.throughput_sure,
        agreement=found.agreement,
        notes=made.notes,
        curves=made.curves,
        grain=grain,
    )


def _drop(found: Comparison) -> float:
    """How much is lost of what judges, all where it has no value any more; without labels the share of rows that changed their class."""
    if found.metric is None:
        return 0.0 if found.agreement is None else 1 - found.agreement
    lost = found.metric.lost(found.figures[found.metric.name].difference)
    return math.inf if math.isnan(lost) else lost
