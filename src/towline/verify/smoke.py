"""Run a freshly loaded version on random legal inputs: does it answer, finitely, the same again, and each row for itself?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from towline.core.clock import Clock, SystemClock
from towline.core.cpu import cpu_kind
from towline.core.errors import EngineError, ImportRefused
from towline.core.manifest import Measured, Padding, Signature
from towline.verify import inputs as make_inputs
from towline.verify.contract import Runner
from towline.verify.guarded import Guarded
from towline.verify.independence import Gaps, gap_between, is_deterministic, no_gaps, why_dependent
from towline.verify.inputs import Recipe
from towline.verify.padding import Bench, Found, find_padding
from towline.verify.proof import prove
from towline.verify.shapes import unified, why_not_rowwise, with_measured_rows

# Sizes of batches whose rows are compared with the same rows alone. The first two are always tried.
PROOF_SIZES = (2, 3, 8, 16)
_ALWAYS = 2
_REPEATS = 3
_MEMORY_STEP_BYTES = 16 << 20
_CLIMB = 4
MAX_BATCH_BYTES = 64 << 20


@dataclass(frozen=True)
class Options:
    """`budget_s` is the time the whole test should take; a slow model gets fewer and smaller batches, never less than two sizes.

    `empty_worker_bytes` is what a worker holds before it loads anything; `memory_limit_bytes` (0: none) is what it may grow to.
    `unnamed` are the symbols that import made up for dims without a name (they may turn out to be one and the same).
    """

    seed: int = 0
    max_batch: int = 256
    budget_s: float = 2.0
    run_timeout_s: float = 60.0
    empty_worker_bytes: int = 0
    memory_limit_bytes: int = 0
    unnamed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Smoked:
    """What the smoke test found. `signature` has the leading dims that were measured to be the batch named as such.

    `gaps` by output and `recipe` are what golden requests are made with; `notes` are sentences for the report. `unpadded_because` says,
    by symbol, why requests that differ in that dim do not share a run.
    """

    signature: Signature
    batchable: bool
    unbatchable_because: str
    finite: bool
    measured: Measured
    gaps: Mapping[str, Gaps]
    recipe: Recipe
    notes: tuple[str, ...] = ()
    padding: tuple[Padding, ...] = ()
    unpadded_because: Mapping[str, str] = field(default_factory=dict)


def smoke_test(
    runner: Runner,
    signature: Signature,
    *,
    samples: Sequence[Mapping[str, np.ndarray]] = (),
    heaviest: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    max_batch: int = 256,
    unnamed: Collection[str] = (),
    empty_worker_bytes: int = 0,
    memory_limit_bytes: int = 0,
    budget_s: float = 2.0,
    run_timeout_s: float = 60.0,
    clock: Clock | None = None,
) -> Smoked:
    """Test a version that `runner` has loaded and not yet run. `samples` fit the signature (samples.py) and are used before random inputs;
    `heaviest` is a request that takes as much memory as one may.

    Raises ImportRefused when the engine refuses every input tried, dies, or does not answer in `run_timeout_s`.
    """
    options = Options(seed, max_batch, budget_s, run_timeout_s, empty_worker_bytes, memory_limit_bytes, tuple(unnamed))
    return _Test(Guarded(runner, run_timeout_s), options, clock or SystemClock()).run(signature, samples, heaviest)


class _Test:
    def __init__(self, runner: Guarded, options: Options, clock: Clock) -> None:
        self._runner = runner
        self._options = options
        self._clock = clock
        self._rng = np.random.default_rng(options.seed)
        self._started_s = clock.monotonic()
        self._notes: list[str] = []

    def run(
        self, signature: Signature, samples: Sequence[Mapping[str, np.ndarray]], heaviest: Mapping[str, np.ndarray] | None = None
    ) -> Smoked:
        loaded_bytes = self._runner.memory_bytes()
        recipe, request, answer = self._first_answer(signature, samples)
        run_s, gaps = self._repeat(request, answer)
        finite = self._note_values(answer)
        recipe, gaps, because = self._rowwise(recipe, gaps, answer, run_s)
        max_batch = self._climb(recipe, run_s, loaded_bytes)
        found = Found() if because or not recipe.batch else self._padding(recipe, gaps, loaded_bytes)
        if heaviest is not None:
            self._weigh(heaviest)
        measured = Measured(
            cpu=cpu_kind(),
            deterministic=is_deterministic(gaps.values()),
            memory_loaded_bytes=self._rounded(loaded_bytes),
            memory_peak_bytes=self._rounded(max(self._runner.peak_memory_bytes(), loaded_bytes)),
            max_batch=max_batch,
        )
        # What was guessed about unnamed dims holds only if it was proven.
        proven = signature if because else recipe.signature
        notes = tuple(self._notes)
        return Smoked(proven, not because, because, finite, measured, gaps, recipe, notes, found.padding, found.because)

    def _first_answer(
        self, signature: Signature, samples: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[Recipe, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The boldest input that the engine answers."""
        candidate = unified(signature, self._options.unnamed)
        if samples:
            return self._sample_answer(signature, samples)
        tried, said = 0, ""
        for shape in dict.fromkeys((candidate, signature)):
            for recipe in make_inputs.recipes(shape):
                request = make_inputs.make(recipe, self._rng)
                try:
                    answer = self._runner.run(request)
                except EngineError as error:
                    tried, said = tried + 1, error.message
                    continue
                if tried:
                    self._notes.append(f"The engine refused bolder inputs ({said}); it was tested with {recipe.style.name}.")
                return recipe, request, answer
        raise ImportRefused(
            f"The engine refused all {tried} random inputs; it said: {said}",
            code="SMOKE_TEST_FAILED",
            hint="Give an input that the model takes: --sample FILE (.npz, .npy or .json).",
        )

    def _sample_answer(
        self, signature: Signature, samples: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[Recipe, dict[str, np.ndarray], dict[str, np.ndarray]]:
        request = dict(samples[0])
        try:
            answer = self._runner.run(request)
        except EngineError as error:
            raise ImportRefused(
                f"The engine refuses the sample; it said: {error.message}",
                code="SAMPLE_REFUSED",
                field="sample",
                hint="Check the sample's values against what the model takes.",
            ) from None
        return make_inputs.from_sample(unified(signature, self._options.unnamed, sample=request), request), request, answer

    def _repeat(self, request: dict[str, np.ndarray], answer: dict[str, np.ndarray]) -> tuple[float, dict[str, Gaps]]:
        """Run the same request again: seconds for one run, and each output's gap between repeats."""
        gaps = {name: no_gaps(name, array) for name, array in answer.items()}
        run_s = float("inf")
        for _ in range(_REPEATS):
            before_s = self._clock.monotonic()
            again = self._runner.run(request)
            run_s = min(run_s, self._clock.monotonic() - before_s)
            gaps = {name: replace(gap, repeats=max(gap.repeats, gap_between(answer[name], again[name]))) for name, gap in gaps.items()}
        return run_s, gaps

    def _note_values(self, answer: Mapping[str, np.ndarray]) -> bool:
        bad = [name for name, array in answer.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
        if bad:
            self._notes.append(f"Gives NaN or infinity on the tested input, in {', '.join(repr(name) for name in bad)}.")
        return not bad

    def _rowwise(
        self, recipe: Recipe, gaps: dict[str, Gaps], answer: Mapping[str, np.ndarray], run_s: float
    ) -> tuple[Recipe, dict[str, Gaps], str]:
        """Prove that each row is answered for itself; else say why it may not be batched. The signature gains what was measured."""
        because = why_not_rowwise(recipe.signature, self._options.unnamed)
        if because or not recipe.batch:
            return recipe, gaps, because
        sizes = self._proof_sizes(run_s)
        try:
            proof = prove(self._runner, recipe, self._rng, sizes, gaps)
        except EngineError as error:
            return recipe, gaps, f"the engine refuses a batch: {error.message}"
        because = proof.because or why_dependent(proof.gaps.values())
        if because:
            return recipe, proof.gaps, because
        return make_inputs.for_signature(recipe, with_measured_rows(recipe.signature, self._options.unnamed)), proof.gaps, ""

    def _proof_sizes(self, run_s: float) -> tuple[int, ...]:
        """As many sizes as the budget holds: each row alone once, and three batches per size."""
        chosen = list(PROOF_SIZES[:_ALWAYS])
        for size in PROOF_SIZES[_ALWAYS:]:
            if self._left_s() / 2 > run_s * (size + 3 * sum((*chosen, size))):
                chosen.append(size)
        return tuple(chosen)

    def _climb(self, recipe: Recipe, run_s: float, loaded_bytes: int) -> int:
        """Run ever larger batches up to the limit, so that the peak of memory is known; stop before time or memory would run out."""
        if not recipe.batch:
            return 1
        limit = max(1, min(self._options.max_batch, MAX_BATCH_BYTES // max(make_inputs.row_bytes(recipe), 1)))
        reached, last_s = 1, run_s
        while reached < limit:
            size = min(reached * _CLIMB, limit)
            grown_bytes = self._runner.peak_memory_bytes() - loaded_bytes
            if last_s * _CLIMB > self._left_s() or self._too_much(loaded_bytes + grown_bytes * _CLIMB):
                break
            before_s = self._clock.monotonic()
            try:
                self._runner.run(make_inputs.make(recipe, self._rng, rows=size))
            except EngineError as error:
                self._notes.append(f"The engine refuses a batch of {size}: {error.message}")
                break
            reached, last_s = size, self._clock.monotonic() - before_s
        return reached

    def _padding(self, recipe: Recipe, gaps: Mapping[str, Gaps], loaded_bytes: int) -> Found:
        """Whether rows of unlike length may share a run. Its time is its own: the proof of the rows loses nothing."""

        def may_grow() -> bool:
            grown_bytes = self._runner.peak_memory_bytes() - loaded_bytes
            return not self._too_much(loaded_bytes + grown_bytes * _CLIMB)

        repeats = {name: gap.repeats for name, gap in gaps.items()}
        climb_s, unnamed = self._options.budget_s / 2, self._options.unnamed
        return find_padding(Bench(self._runner, recipe, self._rng, repeats, self._clock.monotonic, may_grow, climb_s, unnamed))

    def _weigh(self, heaviest: Mapping[str, np.ndarray]) -> None:
        """Run the request that needs the most memory, so that the peak knows it."""
        try:
            self._runner.run(heaviest)
        except EngineError as error:
            self._notes.append(f"The largest input that is allowed could not be tried, so its memory is not counted: {error.message}")

    def _too_much(self, peak_bytes: int) -> bool:
        return 0 < self._options.memory_limit_bytes < peak_bytes

    def _left_s(self) -> float:
        return self._options.budget_s - (self._clock.monotonic() - self._started_s)

    def _rounded(self, worker_bytes: int) -> int:
        """Of this version alone, rounded up, so that a few pages more or less give the same manifest."""
        own = max(worker_bytes - self._options.empty_worker_bytes, 1)
        return -(-own // _MEMORY_STEP_BYTES) * _MEMORY_STEP_BYTES
