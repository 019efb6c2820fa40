"""Find a version that is smaller or faster on this machine and still right: try passes, judge each beside the version, keep what failed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from towline.app.candidates import CALIBRATION_ROWS, calibration, draft, sealed
from towline.app.comparing import Comparison, Side, beside, side
from towline.app.home import actor, opened_store
from towline.app.journal import Journal
from towline.app.judging import Options, Say, labels_of, loaded, number, opened_data
from towline.app.sealing import ImportResult, Order, loaded_by
from towline.core.cpu import cpu_kind
from towline.core.errors import DeadlineExceeded, EngineError, ImportRefused, MissingExtra, UsageError, VersionError
from towline.core.event import Event
from towline.core.refs import Ref, parse_ref
from towline.core.version import Version
from towline.optimize.base import Chain, Pass, Passed, PassFailed
from towline.optimize.plan import Tried as Tried
from towline.optimize.plan import chosen, first_passes, mixed, wants_sensitivity
from towline.optimize.process import TIMEOUT_S, Work, run_pass, run_sensitivity, write_calibration
from towline.optimize.quantize import Int8
from towline.optimize.sensitivity import Sensitivity
from towline.verify.data.dataset import DataSet
from towline.verify.gates import Gate

OPTIMIZED = "version.optimized"
_FAILURES = (PassFailed, MissingExtra, ImportRefused, VersionError, EngineError, DeadlineExceeded)


@dataclass(frozen=True)
class Limits:
    """What a version must keep to be handed over. `max_drop` is of accuracy, as a share (0.005 is half a point); of a regressor it is how
    much its mean error may grow. `min_agreement` holds where there are no labels, and where it is set. 0 sets no limit."""

    max_drop: float = 0.005
    min_agreement: float = 0.0
    max_p99_ms: float = 0.0
    max_size_mb: float = 0.0

    def gates(self, *, has_labels: bool) -> tuple[Gate, ...]:
        agreement = self.min_agreement or (0.0 if has_labels else 1 - self.max_drop)
        wanted = [Gate("drop", "<=", self.max_drop)] if has_labels else []
        wanted += [Gate("agreement", ">=", agreement)] if agreement else []
        wanted += [Gate("p99_ms", "<=", self.max_p99_ms)] if self.max_p99_ms else []
        wanted += [Gate("size_mb", "<=", self.max_size_mb)] if self.max_size_mb else []
        return (*wanted, Gate("not_finite_rows", "<=", 0))


@dataclass(frozen=True)
class Optimized:
    """`tried` in order, `guilty` where layers were looked into; `result` is None where nothing was worth handing over.

    `beside` is the best beside the version it came from, and `limits` are those it kept."""

    version: Version
    rows: int
    tried: tuple[Tried, ...]
    guilty: tuple[Sensitivity, ...]
    best: Tried | None
    result: ImportResult | None
    stopped: str = ""
    beside: Comparison | None = None
    limits: Limits = Limits()

    def as_json(self) -> dict[str, object]:
        return {
            "version": str(self.version),
            "rows": self.rows,
            "tried": [one_json(one) for one in self.tried],
            "guilty": [{**vars(one), "sqnr_db": number(one.sqnr_db)} for one in self.guilty],
            "best": None if self.best is None else one_json(self.best),
            "result": None if self.result is None else {"version": str(self.result.version), "digest": self.result.version.digest},
            "stopped": self.stopped,
        }


def one_json(one: Tried) -> dict[str, object]:
    figures = {"fits": one.fits, "speedup": one.speedup, "size_ratio": one.size_ratio, "drop": one.drop, "because": one.because}
    return {"pass": one.tried.name, "settings": one.tried.settings, **figures}


def optimize(
    ref: str | Ref,
    data: str | Path,
    *,
    limits: Limits = Limits(),
    budget_s: float = 600.0,
    options: Options = Options(),  # noqa: B008
    home: str | Path | None = None,
    say: Say | None = None,
) -> Optimized:
    """Try what may make the version smaller or faster, on rows that it was not calibrated with, and publish the best that keeps the limits.

    The first rows of `data` (a fifth, 200 at most) calibrate, the others judge. What was tried is an event about the version, and is
    remembered: a search that was stopped goes on where it was. Raises UsageError for data that is too little or does not fit.
    """
    from towline.serve.workers.local import LocalWorker

    with opened_store(home) as store:
        version = store.version(ref if isinstance(ref, Ref) else parse_ref(ref))
        if version.manifest.engine != "onnxruntime" or version.manifest.handler is not None:
            raise UsageError(f"{version} is run by {version.engine}; only ONNX models are optimised so far.", code="NOT_OPTIMIZABLE")
        order = Order(store, version.name, None, actor(), f"optimised from {version}", LocalWorker.start, say or _silent)
        whole = opened_data(Path(data), version.manifest, labels_of(version, version.manifest), options)
        place = store.aside("optimize")
        with store.stage() as work:
            journal = Journal.of(place, f"{version.digest} {whole.digest} {limits}")
            found = _Search(order, version, whole, limits, work, journal, time.monotonic() + budget_s).run()
        facts = {"number": version.number, **found.as_json()}
        store.append(Event(OPTIMIZED, actor(), time.time(), name=version.name, digest=version.digest, data=facts))
    return found


class _Search:
    """One search: the version loaded beside each candidate in turn."""

    def __init__(
        self, order: Order, version: Version, whole: DataSet, limits: Limits, work: Path, journal: Journal, until_s: float
    ) -> None:
        held_back = min(CALIBRATION_ROWS, whole.rows // 5)
        if not held_back:
            raise UsageError(f"The data has {whole.rows} rows; some calibrate and others judge, so at least 5 are needed.", code="BAD_DATA")
        self._order = order
        self._version = version
        self._work = work
        self._journal = journal
        self._until_s = until_s
        self._judging = whole.after(held_back)
        self._limits = limits
        self._gates = limits.gates(has_labels=whole.truth is not None)
        self._model = version.path / version.manifest.model_file
        order.say(f"Reading {held_back} rows to calibrate with")
        self._calibration = write_calibration(calibration(version, whole.first(held_back)), work)
        self._tried: list[Tried] = []
        self._guilty: list[Sensitivity] = []
        self._seen: tuple[Tried, Comparison] | None = None
        # What each chain wrote: longer ones go on from there, and the best is published as it was judged.
        self._models: dict[Chain, tuple[Path, tuple[str, ...]]] = {}

    def run(self) -> Optimized:
        stopped = ""
        with loaded(self._version) as worker:
            base = side(self._version, self._version.manifest, worker, self._judging, say=self._order.say)
            try:
                for one in first_passes(cpu_kind(), has_data=True):
                    self._judge(Chain((one,)), base)
                if wants_sensitivity(self._tried):
                    for one in self._mixed():
                        self._judge(Chain((one,)), base)
                        if self._tried[-1].fits:
                            # More operators in float are only slower.
                            break
            except (_OutOfTime, KeyboardInterrupt) as stop:
                stopped = "The time was up." if isinstance(stop, _OutOfTime) else "It was interrupted."
            best = chosen(self._tried)
            seen = self._beside(best, base) if best is not None else None
        result = self._published(best) if best is not None else None
        if not stopped:
            self._journal.forget()
        tried, guilty = tuple(self._tried), tuple(self._guilty)
        return Optimized(self._version, self._judging.rows, tried, guilty, best, result, stopped, seen, self._limits)

    def _judge(self, chain: Chain, base: Side) -> None:
        known = self._journal.result(chain)
        if known is not None:
            self._tried.append(known)
            return
        self._order.say(f"Trying {chain.name}: {chain.settings}")
        try:
            found = self._compared(chain, base)
        except _FAILURES as error:
            tried = Tried(chain, fits=False, speedup=0.0, size_ratio=0.0, drop=0.0, because=error.message)
        else:
            tried = _tried(chain, found)
            if chosen([*self._tried, tried]) is tried:
                # Only of the best: a comparison holds confusion matrices and rows.
                self._seen = tried, found
        self._tried.append(tried)
        self._journal.write(tried)

    def _beside(self, best: Tried, base: Side) -> Comparison:
        """The best in full, for the report: what an earlier run judged is judged again, as much time as that takes."""
        self._until_s = float("inf")
        return self._seen[1] if self._seen is not None and self._seen[0] is best else self._compared(best.tried, base)

    def _compared(self, chain: Chain, base: Side) -> Comparison:
        model, _ = self._written(chain)
        with self._order.store.stage() as folder:
            drafted = draft(self._version, chain, model, folder)
            worker = loaded_by(self._order.start_worker, folder, drafted.manifest)
            try:
                candidate = side(drafted.version(self._version, chain.name), drafted.manifest, worker, self._judging)
                return beside(base, candidate, self._gates)
            finally:
                worker.close()

    def _written(self, chain: Chain) -> tuple[Path, tuple[str, ...]]:
        """The model that the chain makes, and what its passes noted. Raises PassFailed, _OutOfTime."""
        if chain not in self._models:
            before = Chain(chain.passes[:-1])
            model, notes = self._written(before) if before.passes else (self._model, ())
            passed, made = self._passed(chain.last, model)
            self._models[chain] = made / passed.model, (*notes, *passed.notes)
        return self._models[chain]

    def _passed(self, one: Pass, model: Path) -> tuple[Passed, Path]:
        """What one pass made of a model, and the folder that it lies in."""
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise _OutOfTime
        made = self._work / f"pass-{len(self._models)}-{len(self._tried)}"
        try:
            return run_pass(one, Work(model, self._calibration, say=self._order.say, timeout_s=min(TIMEOUT_S, left_s)), made), made
        except PassFailed:
            if time.monotonic() >= self._until_s:
                raise _OutOfTime from None
            raise

    def _mixed(self) -> tuple[Int8, ...]:
        """Static int8 with the guiltiest operators in float, from the settings that lost least."""
        static = [one for one in self._tried if isinstance(one.tried.last, Int8) and one.speedup > 0]
        best = min(static, key=lambda one: one.drop).tried.last
        assert isinstance(best, Int8)
        self._order.say("Looking for the operators that lose the most")
        for found in run_sensitivity(best, Work(self._model, self._calibration), self._work / "sensitivity"):
            self._guilty.append(found)
            if time.monotonic() > self._until_s:
                raise _OutOfTime
        return mixed(best, self._guilty)

    def _published(self, best: Tried) -> ImportResult:
        """The best as it was judged; one that an earlier run of this search judged is made again, as much time as that takes."""
        self._order.say(f"Keeping {best.tried.name}: {best.tried.settings}")
        self._until_s = float("inf")
        model, notes = self._written(best.tried)
        with self._order.store.stage() as staged:
            drafted = draft(self._version, best.tried, model, staged)
            gain = f"{best.speedup:.2f}x as fast as {self._version} in batches, {best.size_ratio:.2f}x its size on disk."
            return sealed(self._order, self._version, drafted, {"optimized_from": self._version.digest, **one_json(best)}, (*notes, gain))


class _OutOfTime(Exception):
    """The budget is spent."""


def _tried(one: Chain, found: Comparison) -> Tried:
    accuracy = found.figures.get("accuracy") or found.figures.get("mae")
    drop = 0.0 if accuracy is None else (-accuracy.difference if "accuracy" in found.figures else accuracy.difference)
    if accuracy is None and found.agreement is not None:
        drop = 1 - found.agreement
    size = found.figures["size_mb"]
    because = "" if found.passed else found.verdict
    if found.passed and found.throughput_ratio < 1:
        because = f"It is slower here: {found.throughput_ratio:.2f}x."
    ratio = size.second / size.first
    return Tried(one, found.passed, found.throughput_ratio, ratio, drop, because, found.throughput_sure, found.agreement)


def _silent(sentence: str) -> None:
    """Nobody asked for progress."""
