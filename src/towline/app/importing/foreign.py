"""Import a foreign model: convert it by one route after another, prove each equal to its source, and take the first that is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from towline.app.importing.converting import GIVEN_ROUTE, Maker
from towline.app.importing.foreign_copy import ForeignCopy, copy_foreign
from towline.app.importing.given import Given, file_digest
from towline.app.importing.labelling import labelled_data, on_labelled
from towline.app.importing.naming import Names, matched_inputs, matched_outputs
from towline.app.importing.proving import Arrays, Asked, Attempt, Reference, Run, compared, explained, kept_answers, references
from towline.app.importing.sealing import Candidate, ImportResult, Order, existing, seal
from towline.convert.base import ConversionFailed, Task
from towline.convert.foreign.converter import BROKEN, DIED, TIMEOUT, Converter, Launch, Loaded
from towline.convert.foreign.importers import importer_entry
from towline.convert.foreign.lookout import SOURCE_ESCAPES
from towline.convert.made import ONNX_ENGINE, default_of
from towline.convert.recognise import Recognised, recognise
from towline.core.environments import python_of
from towline.core.errors import DeadlineExceeded, EngineError, ImportRefused, UsageError, VersionError
from towline.core.manifest import Signature
from towline.verify.parity.compare import Parity
from towline.verify.parity.refused import keep_worst
from towline.verify.parity.tolerance import Tolerance, tolerance_for
from towline.verify.sample_files import load_samples
from towline.verify.samples import fitted

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker

# A route's own failures; anything else ends the import.
_FAILURES = (ConversionFailed, EngineError, ImportRefused, VersionError, DeadlineExceeded)
_FORGIVEN = "it passed only with what rounding the input does to the source"
# These end it too: every other route would be asked of the same process, which is gone.
_ENDS = (SOURCE_ESCAPES, DIED, TIMEOUT, BROKEN)


def import_foreign(order: Order, given: Given) -> tuple[ImportResult, LocalWorker | None]:
    """`given.foreign` is converted; or the ONNX file `given.model` is proven equal to `given.against`."""
    found = given.foreign or _source_of(given)
    with order.store.stage() as work:
        order.say(f"Copying {found.what}")
        copy = copy_foreign(found, given, work)
        digest = copy.digest
        if given.against is not None:
            # The same ONNX file proven against another source is another import.
            digest = "sha256:" + hashlib.sha256(f"{file_digest(given.model)} {copy.digest}".encode()).hexdigest()
        known = existing(order, given, digest)
        if known is not None:
            return known, None
        with _converter(found, given, copy, work) as converter:
            order.say(f"Reading it with its own framework ({found.importer}), behind walls")
            return _Import(order, given, found, converter, work, digest).run()


def import_asked(
    order: Order, given: Given, found: Recognised, asked: Asked, work: Path, digest: str
) -> tuple[ImportResult, LocalWorker | None]:
    """Convert and prove a source that somebody else asks; `work` is an empty folder of the import's own."""
    return _Import(order, given, found, asked, work, digest).run()


class _Import:
    """One source being converted and proven."""

    def __init__(self, order: Order, given: Given, found: Recognised, converter: Asked, work: Path, digest: str) -> None:
        self._order = order
        self._given = given
        self._found = found
        self._converter = converter
        self._maker = Maker(given, found, converter, work, digest)

    def run(self) -> tuple[ImportResult, LocalWorker | None]:
        loaded = self._converter.load()
        examples = self._examples(loaded)
        data = labelled_data(self._given, loaded.signatures)
        asked = references(self._converter, loaded.signatures, self._samples(loaded), examples)
        tolerances = {name: self._tolerance(signature, loaded) for name, signature in loaded.signatures.items()}
        with ExitStack() as kept:
            attempts, (attempt, candidate) = self._best(loaded, asked, tolerances, kept)
            self._order.say(_equal(attempt))
            default = default_of(loaded.signatures)
            measured = on_labelled(self._order, self._converter, candidate, data, default) if data else None
            # Its memory is needed for what comes next.
            self._converter.close()
            evidence: dict[str, object] = {"source_kind": self._found.kind, "routes": [one.as_json() for one in attempts]}
            evidence |= {"labelled": measured.as_json()} if measured else {}
            answers = candidate.source_answers or kept_answers(asked, default, tolerances[default])
            notes = (
                *loaded.notes,
                *candidate.notes,
                *_passed_over(attempts, attempt),
                *_ill_conditioned(attempt),
                *([measured.words()] if measured else []),
            )
            whole = replace(candidate, evidence=evidence, notes=notes, source_answers=answers, examples=examples)
            return seal(self._order, self._given, whole)

    def _best(
        self, loaded: Loaded, asked: Sequence[Reference], tolerances: Mapping[str, Tolerance], kept: ExitStack
    ) -> tuple[Sequence[Attempt], tuple[Attempt, Candidate]]:
        """All attempts, and of them the first that passed with nothing forgiven, else the first that passed; its folder is in `kept`."""
        attempts: list[Attempt] = []
        best: tuple[Attempt, Candidate] | None = None
        for route in self._routes(loaded):
            with ExitStack() as own:
                staged = own.enter_context(self._order.store.stage())
                self._order.say("Comparing it with its source" if route == GIVEN_ROUTE else f"Converting it by way of {route}")
                attempt, candidate = self._try(route, loaded, asked, tolerances, staged, has_one=best is not None)
                attempts.append(attempt)
                if candidate is not None and (best is None or attempt.is_strict):
                    best = attempt, candidate
                    kept.enter_context(own.pop_all())
            if best is not None and best[0].is_strict:
                break
        if best is None:
            raise refused(self._found, attempts, self._order.store.aside("refused"), self._order.name)
        return attempts, best

    def _routes(self, loaded: Loaded) -> Sequence[str]:
        if self._given.against is not None:
            return (GIVEN_ROUTE,)
        wanted = self._given.options.get("route")
        if wanted is not None and wanted not in loaded.routes:
            raise UsageError(f"There is no route '{wanted}' for this.", field="route", hint=f"There is: {', '.join(loaded.routes)}.")
        return (wanted,) if wanted else loaded.routes

    def _samples(self, loaded: Loaded) -> Sequence[Arrays]:
        """The user's, where they are tensors: what processing reads is not what the source takes."""
        if self._given.sample is None or self._given.processing or self._given.preset:
            return []
        return load_samples(self._given.sample, loaded.signatures[default_of(loaded.signatures)])

    def _examples(self, loaded: Loaded) -> tuple[Arrays, ...]:
        """What the source says it was made for, held to its signature."""
        return (fitted(loaded.examples, loaded.signatures[default_of(loaded.signatures)]),) if loaded.examples else ()

    def _tolerance(self, signature: Signature, loaded: Loaded) -> Tolerance:
        return tolerance_for(signature, tightened=self._given.tolerance, quantised=loaded.facts.get("quantised") == "yes")

    def _try(
        self, route: str, loaded: Loaded, asked: Sequence[Reference], tolerances: Mapping[str, Tolerance], staged: Path, *, has_one: bool
    ) -> tuple[Attempt, Candidate | None]:
        """The attempt, and what it made when that is equal to the source. `has_one`: a conversion to ONNX passed before."""
        try:
            candidate = self._maker.made(route, loaded, staged)
            if has_one and candidate.made.engine != ONNX_ENGINE:
                return Attempt(route, "a conversion to ONNX passed"), None
            if route == GIVEN_ROUTE:
                return self._given_one(loaded, candidate, asked, tolerances)
            if because := unlike(loaded.signatures, candidate.made.signatures):
                return Attempt(route, because), None
            judged = compared(self._order, self._converter, candidate, asked, tolerances)
        except _FAILURES as error:
            if error.code in _ENDS:
                raise
            return Attempt(route, error.message, error=error), None
        return self._verdict(route, candidate, asked, tolerances, judged)

    def _given_one(
        self, loaded: Loaded, candidate: Candidate, asked: Sequence[Reference], tolerances: Mapping[str, Tolerance]
    ) -> tuple[Attempt, Candidate | None]:
        """The user's own conversion, whose names may be an exporter's: those of the default signature are found out."""
        default = default_of(loaded.signatures)
        wanted, made = loaded.signatures[default], candidate.made.signatures[default]
        inputs = matched_inputs(wanted, made)
        if inputs is None:
            return Attempt(GIVEN_ROUTE, unlike(loaded.signatures, candidate.made.signatures) or "its inputs are others"), None
        own = [one for one in asked if one.signature == default]
        names: list[Names] = []

        def named(run: Run) -> Names:
            first = own[0]
            got = run({inputs[name]: array for name, array in first.request.items()})
            outputs = matched_outputs(wanted, made, first.answer, got) or {name: name for name in first.answer}
            names.append(Names(inputs, outputs))
            return names[0]

        judged = compared(self._order, self._converter, candidate, own, tolerances, named)
        if not names[0].differ:
            return self._verdict(GIVEN_ROUTE, candidate, own, tolerances, judged)
        kept = [names[0].recorded(one) for one in kept_answers(own, default, tolerances[default])]
        candidate = replace(candidate, notes=(*candidate.notes, names[0].words()), source_answers=kept)
        failed = judged[default]
        return Attempt(GIVEN_ROUTE, failed.because, judged), candidate if failed.passed else None

    def _verdict(
        self,
        route: str,
        candidate: Candidate,
        asked: Sequence[Reference],
        tolerances: Mapping[str, Tolerance],
        judged: Mapping[str, Parity],
    ) -> tuple[Attempt, Candidate | None]:
        failed = next((name for name, one in judged.items() if not one.passed), None)
        if failed is None:
            return Attempt(route, parity=judged), candidate
        why = explained(self._order, self._converter, candidate, asked, failed, judged[failed], tolerances[failed])
        return Attempt(route, " ".join(filter(None, (judged[failed].because, why))), judged), None


def unlike(wanted: Mapping[str, Signature], made: Mapping[str, Signature]) -> str:
    """How the names and dtypes of a conversion's inputs and outputs differ from the source's, or nothing. Pure."""
    for name, signature in wanted.items():
        for what, first, second in (
            ("inputs", signature.inputs, made[name].inputs),
            ("outputs", signature.outputs, made[name].outputs),
        ):
            theirs, ours = ({spec.name: spec.dtype for spec in specs} for specs in (first, second))
            if theirs != ours:
                return f"its {what} are {_words(ours)}, those of the source {_words(theirs)}"
    return ""


def refused(found: Recognised, attempts: Sequence[Attempt], folder: Path, name: str) -> ImportRefused:
    """No route led to a model that answers as its source does. What the closest was asked and answered is kept in `folder`."""
    compared_ones = [attempt for attempt in attempts if attempt.parity]
    if not compared_ones:
        last = attempts[-1]
        if len(attempts) == 1 and last.error is not None:
            return ImportRefused(last.error.message, code=last.error.code, hint=last.error.hint, field=last.error.field)
        said = "; ".join(f"{attempt.route}: {attempt.because}" for attempt in attempts)
        return ImportRefused(f"No route converts {found.what}. {said}", code="NOT_CONVERTIBLE")
    closest = min(compared_ones, key=lambda attempt: attempt.distance)
    said = "".join(f" By way of {other.route}: {other.because}" for other in attempts if other is not closest)
    return ImportRefused(
        f"The converted model does not answer as its source does: {closest.because}{said}",
        code="NOT_EQUAL",
        hint="Nothing was imported." + _kept(closest, folder, name),
    )


def _kept(closest: Attempt, folder: Path, name: str) -> str:
    worst = max(closest.parity.values(), key=lambda one: (not one.passed, one.distance))
    kept = keep_worst(worst, folder, name)
    return f" The worst input and both answers are in the store's folder: {folder.name}/{kept.name}." if kept else ""


def _equal(attempt: Attempt) -> str:
    """What was proven, by the output that differs most."""
    return f"Equal to its source. {max(attempt.parity.values(), key=lambda one: one.distance).widest()}"


def _ill_conditioned(attempt: Attempt) -> tuple[str, ...]:
    told = [(name, one.ill_conditioned, one.samples) for name, one in attempt.parity.items() if one.ill_conditioned]
    return tuple(
        f"In {count} of {of} requests the answers differ by more than is allowed elsewhere ('{name}'), but no more than rounding the input "
        "moves the source's own."
        for name, count, of in told
    )


def _passed_over(attempts: Sequence[Attempt], taken: Attempt) -> tuple[str, ...]:
    others = (one for one in attempts if one is not taken)
    return tuple(f"The route '{one.route}' was not taken: {one.because or _FORGIVEN}" for one in others)


def _words(specs: Mapping[str, str]) -> str:
    return ", ".join(f"'{name[:64]}' ({dtype})" for name, dtype in specs.items()) or "none"


def _source_of(given: Given) -> Recognised:
    assert given.against is not None
    found = recognise(given.against)
    if found is None:
        raise UsageError(
            f"{given.against} is no source that a model is converted from.",
            code="UNKNOWN_SOURCE",
            field="against",
            hint="Give what the training left behind: a .pth, .pt, .keras, .h5, SavedModel, .tflite, ….",
        )
    return found


def _converter(found: Recognised, given: Given, copy: ForeignCopy, work: Path) -> Converter:
    entry = importer_entry(found.importer, copy.options.get("route", ""))
    scratch = work / "scratch"
    scratch.mkdir(mode=0o700)
    options = {name: value for name, value in copy.options.items() if name != "route"}
    task = Task(copy.entry, scratch, found.kind, options, trusted=given.trust)
    python = python_of(entry.environment) if entry.environment else ""
    return Converter(entry, task, python=python, launch=launcher(trust=given.trust), reads=copy.reads)


def launcher(*, trust: bool) -> Launch:
    """What starts converters: always the sandbox; where there is none, only what its owner vouches for."""
    from towline.secure.sandbox.launch import launch, launch_vouched

    return launch_vouched if trust else launch
