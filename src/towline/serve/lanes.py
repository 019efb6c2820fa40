"""Open what a slot runs on: a worker process, or the engine in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from towline.core.errors import EngineError, MissingExtra, TowlineError, Unavailable, VersionError
from towline.core.frames import FrameError
from towline.core.interpreter import worker_kind
from towline.core.manifest import Manifest, encode_manifest
from towline.core.runtime import UNTUNED, Runtime
from towline.core.warmup import WarmReport
from towline.serve.jobs import Batch
from towline.serve.recovery import MAX_RETRIES, is_crash
from towline.serve.router import WantedVersion
from towline.serve.workers.control import Loading
from towline.serve.workers.pool import Pool
from towline.serve.workers.process import Finish, Worker
from towline.serve.workers.streams import PassOn

# Runs shorter than this go on in the worker's receiving thread: a hop to another would cost more than it gains.
TINY_RUN_US = 1000
LONG_RUN_US = 100_000
# Eight rows at once must be this much cheaper than eight runs, or merging only makes the first ones wait for the last.
MERGING_GAIN = 1.25
# Where rows are padded, up to a quarter of what is run is padding as a rule: so much cheaper must it be to gain by it yet.
PADDING_GAIN = 1.4
# A batch of four times the rows must be this much cheaper by the row.
GAIN_BY_THE_ROW = 1.1


def merging_pays(report: WarmReport) -> bool:
    """Whether a batch costs less than its rows one by one; so it is believed of what was not measured. Pure."""
    if report.eight_rows_us <= 0:
        return True
    return 8 * report.one_row_us / report.eight_rows_us >= MERGING_GAIN


def ahead_pays(manifest: Manifest, report: WarmReport) -> int:
    """How many batches to give a worker beyond those it runs at once, so that it does not wait for the front between two runs. Pure.

    None of what gains by waiting, since it shares a run then; none of a handler's requests, which nobody may run twice when it dies;
    none of long runs, which do not feel the front's turn, and keep what was given from being dropped or overtaken for long.
    """
    grows = manifest.batchable and merging_pays(report)
    return int(not grows and manifest.handler is None and TINY_RUN_US <= report.one_row_us < LONG_RUN_US)


def rows_that_pay(curve: Sequence[tuple[int, float]]) -> int:
    """Of runs timed with ever more rows, (rows, microseconds), the last that was cheaper by the row than the one before; 0 when all were.

    Pure. Between two sizes that were timed, the larger is told: it costs no more by the row.
    """
    for (rows, us), (more_rows, more_us) in pairwise(curve):
        if us / rows < GAIN_BY_THE_ROW * more_us / more_rows:
            return rows
    return 0


def length_that_pays(lengths: Sequence[tuple[int, float, float]]) -> int:
    """Of runs timed with ever longer rows, (length, microseconds of one row, of eight), the last at which merging outweighs padding.

    Pure. The longer a row, the less is gained by a second one beside it, while half of what is run may be padding.
    """
    longest = 0
    for length, one_us, eight_us in lengths:
        if 8 * one_us / eight_us < PADDING_GAIN:
            break
        longest = length
    return longest


class Lane(Protocol):
    """What a slot needs of the place its batches run in."""

    pid: int
    is_dead: bool
    threads: int
    merges: bool
    # Rows beyond which a larger batch gains nothing; 0: none is known.
    max_rows: int
    # The length up to which it pays to pad shorter rows for a run with longer ones; 0: none is known.
    pads_up_to: int
    memory_bytes: int
    on_batch: Finish
    on_part: PassOn
    on_death: Callable[[Any], None]

    @property
    def idle(self) -> int: ...

    @property
    def running(self) -> list[Batch]:
        """In the order they were given: the first `threads` of them run, others wait behind."""
        ...

    def run(self, batch: Batch) -> None: ...

    def terminate_runs(self) -> None: ...

    async def ask(self, message: dict[str, Any], descriptors: tuple[int, ...] = (), *, timeout_s: float) -> dict[str, Any]: ...


class Lanes(Protocol):
    async def open(self, version: WantedVersion, manifest: Manifest, on_state: Callable[[str], None]) -> Lane:
        """A loaded, warmed lane whose answers were compared with the version's golden ones. Raises with the reason it may not serve."""
        ...

    def end(self, lane: Lane) -> None: ...

    def batch_bytes(self) -> int:
        """The most one batch may hold."""
        ...


class ProcessLanes:
    """The default: a worker process for each version. `said` is what the owner says of all of them, before what was found for each."""

    def __init__(self, pool: Pool, *, device: str, load_timeout_s: float, cores: int, said: Runtime = UNTUNED) -> None:
        self._pool = pool
        self._device = device
        self._load_timeout_s = load_timeout_s
        self._cores = cores
        self._said = said

    async def open(self, version: WantedVersion, manifest: Manifest, on_state: Callable[[str], None]) -> Worker:
        for left in reversed(range(1 + MAX_RETRIES)):
            # One that import has loaded runs with one thread.
            adopted = self._pool.adopted(version.digest) if self._runtime(version).threads <= 1 else None
            worker = adopted or await self._pool.take(_kind(version, manifest))
            try:
                return await self._opened(worker, version, manifest, on_state)
            except BaseException as error:
                self._pool.end(worker)
                if isinstance(error, OSError):
                    raise Unavailable(f"The system gave no room for a worker: {error.strerror}.", code="NO_WORKER") from error
                if not worker.has_hung_up:
                    raise
            # As with requests: killed from outside is no fault of the version, a crash is.
            end = await self._pool.hub.exit_of(worker.pid)
            if is_crash(end.signal_number) or not left:
                raise Unavailable(f"Its worker {end} while it was loaded.", code="WORKER_DIED", retry_after_s=1.0)
        raise AssertionError("the last attempt returns or raises")

    async def _opened(self, worker: Worker, version: WantedVersion, manifest: Manifest, on_state: Callable[[str], None]) -> Worker:
        raw = encode_manifest(manifest).decode()
        if worker.arena is None:
            arena = self._pool.arena_size.fitting(manifest).create()
            loading = Loading(version.path, version.digest, raw, self._device, self._runtime(version).threads or 1)
            await worker.load(loading, arena=arena, timeout_s=self._load_timeout_s)
        on_state("warming")
        answer = await worker.ask({"do": "warm", "folder": version.path, "manifest": raw}, timeout_s=self._load_timeout_s)
        report = WarmReport.from_message(answer)
        if not report.is_ready:
            raise VersionError(report.reason, code="GOLDEN_MISMATCH", hint="Test this version on this machine before it serves here.")
        worker.max_rows = rows_that_pay(report.curve)
        worker.pads_up_to = length_that_pays(report.lengths)
        worker.merges = merging_pays(report)
        await worker.start(self._runs(version, manifest, report), ahead=ahead_pays(manifest, report))
        return worker

    def _runtime(self, version: WantedVersion) -> Runtime:
        return self._said.over(version.runtime)

    def _runs(self, version: WantedVersion, manifest: Manifest, report: WarmReport) -> int:
        if manifest.handler is not None:
            return manifest.handler.max_concurrent
        if runs := self._runtime(version).runs:
            return runs
        return 1 if 0 <= report.one_row_us < TINY_RUN_US else self._cores

    def end(self, lane: Lane) -> None:
        if isinstance(lane, Worker):
            self._pool.end(lane)

    def batch_bytes(self) -> int:
        # Each tensor of a frame is padded and described; 1 MiB covers that.
        return self._pool.arena_size.slot_bytes - (1 << 20)


Run = Callable[..., Any]


def _kind(version: WantedVersion, manifest: Manifest) -> str:
    try:
        return worker_kind(manifest, Path(version.path))
    except MissingExtra as error:
        # A slot tells its reason in one sentence: what to do belongs to it.
        raise Unavailable(f"{error.message} {error.hint}.", code=error.code) from None


class InlineLanes:
    """`--isolation none`: the engine runs in this process, on the event loop. For embedding; a crash takes the server along."""

    def __init__(self, load: Callable[[Path, str, Manifest], tuple[Run, WarmReport]], loop: asyncio.AbstractEventLoop) -> None:
        self._load = load
        self._loop = loop

    async def open(self, version: WantedVersion, manifest: Manifest, on_state: Callable[[str], None]) -> InlineLane:
        if manifest.handler is not None or manifest.environment:
            what = "A handler's code" if manifest.handler is not None else f"What the '{manifest.environment}' environment runs"
            raise VersionError(f"{what} only runs in a process of its own.", code="NEEDS_ISOLATION", hint="--isolation process")
        run, report = self._load(Path(version.path), version.digest, manifest)
        on_state("warming")
        if not report.is_ready:
            raise VersionError(report.reason, code="GOLDEN_MISMATCH", hint="Test this version on this machine before it serves here.")
        lane = InlineLane(run, manifest, self._loop, merges=merging_pays(report), max_rows=rows_that_pay(report.curve))
        lane.pads_up_to = length_that_pays(report.lengths)
        return lane

    def end(self, lane: Lane) -> None:
        lane.is_dead = True

    def batch_bytes(self) -> int:
        return 1 << 30


class InlineLane:
    def __init__(self, run: Run, manifest: Manifest, loop: asyncio.AbstractEventLoop, *, merges: bool, max_rows: int = 0) -> None:
        self.pid = 0
        self.is_dead = False
        self.threads = 1
        self.merges = merges
        self.max_rows = max_rows
        self.pads_up_to = 0
        self.memory_bytes = 0
        self.on_batch: Finish = lambda batch, result, spent_us: None
        self.on_part: PassOn = lambda batch, outputs, more: None
        self.on_death: Callable[[Any], None] = lambda lane: None
        self._run = run
        self._manifest = manifest
        self._loop = loop
        self._batch: Batch | None = None

    @property
    def idle(self) -> int:
        return 0 if self.is_dead or self._batch is not None else 1

    @property
    def running(self) -> list[Batch]:
        return [self._batch] if self._batch is not None else []

    def run(self, batch: Batch) -> None:
        self._batch = batch
        began = self._loop.time()
        result: dict[str, Any] | TowlineError
        try:
            place = batch.jobs[0].signature
            name = self._manifest.signature_names[place]
            outputs = self._run(_merged(batch), **({"signature": name} if place else {}))
            result = dict(zip([spec.name for spec in self._manifest.signatures[name].outputs], outputs, strict=True))
        except TowlineError as error:
            result = error
        self._batch = None
        self.on_batch(batch, result, int((self._loop.time() - began) * 1e6))

    def terminate_runs(self) -> None:
        """Runs are over before anyone could ask."""

    async def ask(self, message: dict[str, Any], descriptors: tuple[int, ...] = (), *, timeout_s: float) -> dict[str, Any]:
        return {}


def _merged(batch: Batch) -> Mapping[str, np.ndarray]:
    try:
        parts = batch.inputs
        return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except (ValueError, FrameError) as error:
        raise EngineError("The requests of a batch do not fit together.", code="BAD_BATCH") from error
