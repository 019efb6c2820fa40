"""From a staged model to a published version: load it, try it, measure it, seal it, and give it a number."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import towline
from towline.app.importing.given import OPTIONS, PROCESSING, SAMPLE, Given
from towline.app.machine import memory
from towline.convert.files import Copied
from towline.convert.inspected import Inspected
from towline.convert.labels import encode_labels, read_labels
from towline.convert.made import ONNX_ENGINE, Made
from towline.convert.onnx import StartReader, start_here
from towline.convert.report import ImportReport
from towline.core.errors import ImportRefused, VersionError, WorkerDied
from towline.core.manifest import Manifest
from towline.core.store import Store
from towline.core.version import Version, check_sealed

if TYPE_CHECKING:
    from towline.app.importing.trying import StartWorker
    from towline.convert.processing import Prepared
    from towline.convert.version import RecordedGolden
    from towline.serve.workers.local import LocalWorker

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ImportResult:
    """`existed`: the same source, labels and sample were there already under this name, and nothing was added."""

    version: Version
    report: ImportReport
    existed: bool


@dataclass(frozen=True)
class Order:
    """Under which name and number an import is to be known, who asked for it and why, and how processes and words get out."""

    store: Store
    name: str
    number: int | None
    actor: str
    message: str
    start_worker: StartWorker
    say: Progress
    start_reader: StartReader = start_here


@dataclass(frozen=True)
class Candidate:
    """A staged model that is to become a version. `evidence` goes into the event, `notes` into the report. `examples` are requests of
    values as its source was made for, which it is tried with where its owner gave no sample.
    """

    copied: Copied
    inspected: Inspected
    made: Made = field(default_factory=Made)
    evidence: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source_answers: Sequence[RecordedGolden] = ()
    examples: Sequence[Mapping[str, np.ndarray]] = ()
    # Which tensor of the graph is which layer of the source, where a converter knows.
    layers: Mapping[str, str] = field(default_factory=dict)


def seal(order: Order, given: Given, candidate: Candidate) -> tuple[ImportResult, LocalWorker | None]:
    """Also returns the worker that has loaded the version, when it is new: the caller's to close or to serve with."""
    from towline.app.importing.trying import requests_for
    from towline.convert.report import import_report
    from towline.convert.version import build_version, draft_manifest, write_files, write_labels
    from towline.verify.golden import record_golden
    from towline.verify.smoke import smoke_test

    copied, inspected, made = candidate.copied, candidate.inspected, candidate.made
    labels = read_labels(given.labels) if given.labels else None
    prepared = _prepared(given, inspected, labels)
    signature = prepared.outer if prepared else inspected.signature
    requests = requests_for(signature, prepared.processing if prepared else None, given.sample, candidate.examples)
    notes = candidate.notes
    if labels is not None:
        write_labels(copied.folder, labels, inspected.signature)
    if prepared is not None:
        write_files(copied.folder, prepared)
    if given.fuse and prepared is not None:
        from towline.app.importing.fusing import fuse_steps

        order.say("Writing the steps into the graph, and comparing")
        fused = fuse_steps(copied, inspected, prepared, labels, requests, order.start_worker)
        inspected, prepared, notes = fused.inspected, fused.prepared, (*notes, fused.note)
        signature = prepared.outer
    order.say("Loading it in a process of its own")
    draft = draft_manifest(copied, inspected, prepared, has_labels=labels is not None, made=made)
    worker = loaded_by(order.start_worker, copied.folder, draft)
    try:
        order.say("Trying it: finite, repeatable, each row for itself?")
        smoked = smoke_test(
            worker,
            signature,
            samples=requests.tried,
            heaviest=requests.heaviest,
            unnamed=() if prepared else inspected.unnamed,
            memory_limit_bytes=memory().available_bytes or 0,
        )
        goldens = record_golden(worker, smoked, samples=requests.golden)
        manifest = build_version(
            copied,
            inspected,
            smoked,
            goldens,
            prepared=prepared,
            labels=labels,
            tools=_tools(given, prepared, made),
            made=made,
            source_answers=candidate.source_answers,
        )
        report = import_report("", copied.size_bytes, manifest, inspected, (*smoked.notes, *notes))
        return publish(order, copied, report, worker, candidate.evidence)
    except BaseException:
        worker.close()
        raise


def publish(
    order: Order, copied: Copied, draft: ImportReport, worker: LocalWorker, evidence: Mapping[str, object] | None = None
) -> tuple[ImportResult, LocalWorker | None]:
    """Give a sealed folder its number. `draft` is the report without what only the store knows."""
    before = order.store.numbers(order.name)
    more = {} if order.number is None else {"number": order.number}
    facts = {key: value for key, value in draft.as_json().items() if key not in ("digest", "size_bytes")}
    data = {"source": copied.source_name, **facts, **(evidence or {})}
    version = order.store.publish(copied.folder, order.name, actor=order.actor, why=order.message, data=data, **more)
    report = ImportReport(version.digest, version.size_bytes, draft.manifest, draft.warnings)
    existed = version.number in before
    if existed:
        worker.close()
    return ImportResult(version, report, existed), None if existed else worker


def existing(order: Order, given: Given, source_digest: str) -> ImportResult | None:
    """The version that this very import made before, if its files are still what they were."""
    version = order.store.find_source(order.name, source_digest)
    if version is None or order.number not in (None, version.number):
        return None
    manifest = version.manifest
    had = (version.path / manifest.labels).read_bytes() if manifest.labels else None
    has = encode_labels(read_labels(given.labels)) if given.labels else None
    wanted = given.origin
    if had != has or any(manifest.origin.tools.get(name) != wanted.get(name) for name in (SAMPLE, PROCESSING, OPTIONS)):
        return None
    try:
        check_sealed(version.path, version.digest)
    except VersionError:
        # Imported anew, the store puts the files right.
        return None
    return ImportResult(version, ImportReport(version.digest, version.size_bytes, manifest), existed=True)


def loaded_by(start_worker: StartWorker, folder: Path, manifest: Manifest) -> LocalWorker:
    """A worker that has loaded the staged version. Raises ImportRefused when its process dies of that."""
    try:
        return start_worker(folder, manifest)
    except WorkerDied as death:
        how = f"died by {signal.Signals(death.signal_number).name}" if death.signal_number else "ended"
        raise ImportRefused(
            f"The engine's process {how} while it loaded the model; such a model is not taken.",
            code="ENGINE_CRASHED",
            hint="Export the model again, or with another opset.",
        ) from death


def _prepared(given: Given, inspected: Inspected, labels: tuple[str, ...] | None) -> Prepared | None:
    """The processing that was asked for, fitted to the graph."""
    if given.processing is None and not given.preset:
        return None
    from towline.convert.declaration import read_declaration
    from towline.convert.presets import preset
    from towline.convert.processing import prepare

    if given.processing is not None:
        declared = read_declaration(given.processing)
    else:
        declared = preset(given.preset, inspected.signature, inspected.makers, has_labels=labels is not None)
    return prepare(declared, inspected.signature, labels)


def _tools(given: Given, prepared: Prepared | None, made: Made) -> dict[str, str]:
    """What took part, and what it was given."""
    import importlib.metadata

    packages = [*((ONNX_ENGINE,) if made.engine == ONNX_ENGINE else ()), *_packages(prepared)]
    return {"towline": towline.__version__, **{package: importlib.metadata.version(package) for package in packages}, **given.origin}


def _packages(prepared: Prepared | None) -> list[str]:
    """The libraries whose releases may change what processing reads."""
    kinds = {step.kind for step in prepared.processing.before} if prepared else set()
    return [package for kind, package in (("image", "pillow"), ("resample", "soxr"), ("text", "tokenizers")) if kind in kinds]
