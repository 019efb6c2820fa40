"""Import a model file: copy, read, load, try, measure, seal. Each step in the room or process that may do it."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import towline
from towline.app.home import actor as current_actor
from towline.app.home import opened_store
from towline.app.machine import memory
from towline.app.sources import check_file, is_handler
from towline.convert.declaration import read_declaration
from towline.convert.files import Copied, copy_source
from towline.convert.inspected import Inspected
from towline.convert.labels import encode_labels, read_labels
from towline.convert.onnx import Inspection
from towline.convert.presets import NAMES as PRESETS
from towline.convert.presets import preset
from towline.convert.processing import Prepared, prepare
from towline.convert.report import ImportReport
from towline.core.errors import ImportRefused, UsageError, VersionError, WorkerDied
from towline.core.manifest import Manifest
from towline.core.refs import MODEL_NAME, check_model_name, clip
from towline.core.store import Store
from towline.core.version import Version, check_sealed

if TYPE_CHECKING:
    from towline.app.importing_handler import HandlerSource
    from towline.serve.workers.local import LocalWorker

MAX_NAME_CHARS = 128
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
# Among the tools of a version's origin: the digest of the sample it was tried with, so that the same import is known again.
SAMPLE = "sample"
# And that of its processing, as it was declared.
_PROCESSING = "processing"

Progress = Callable[[str], None]
StartWorker = Callable[[Path, Manifest], "LocalWorker"]


@dataclass(frozen=True)
class ImportResult:
    """`existed`: the same file, labels and sample were there already under this name, and nothing was added."""

    version: Version
    report: ImportReport
    existed: bool


@dataclass(frozen=True)
class _Source:
    """A model file, and what its owner gave with it."""

    model: Path
    labels: Path | None
    sample: Path | None
    processing: Path | None = None
    preset: str = ""
    fuse: bool = False

    @property
    def processing_digest(self) -> str | None:
        """What tells one declaration from another, before the graph it is for is known."""
        if self.processing is not None:
            return read_declaration(self.processing).digest() + self._fused
        return f"preset {self.preset}{self._fused}" if self.preset else None

    @property
    def _fused(self) -> str:
        return ", fused" if self.fuse else ""

    @property
    def sample_digest(self) -> str | None:
        if self.sample is None:
            return None
        with self.sample.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def import_model(
    source: str | Path,
    *,
    name: str | None = None,
    labels: str | Path | None = None,
    sample: str | Path | None = None,
    processing: str | Path | None = None,
    preset: str = "",
    fuse: bool = False,
    include: Sequence[str | Path] = (),
    python: str | Path = "",
    message: str = "",
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> ImportResult:
    """Check and measure a model file, and store it as the next version of `name` (default: made of the file's name).

    `labels` names the output's classes, one per line; `sample` holds an input to try the model with (.npz, .npy, JSON, or a picture,
    sound or text where the version takes those); `processing` is a TOML file that declares what is done before and after the graph,
    `preset` names one that many models share; `fuse` writes those steps into the graph; `message` is the reason, for the record.
    The same file, labels, sample and processing under the same name are stored once.
    A user's own class is given as `handler.py:ClassName`, with the files and folders it needs as `include`, and the `python` of the
    environment it runs in where that is not ours.
    Raises UsageError for a path that is no readable file, ImportRefused for what may not be imported.
    """
    from towline.serve.workers.local import LocalWorker

    name = name or name_of(source)
    if is_handler(str(source)):
        _handler(source, labels, sample, tuple(map(Path, include)), str(python))
    else:
        _checked(source, labels, sample, processing, preset, include, fuse=fuse)
    with opened_store(home) as store:
        result, worker = import_into(
            store,
            source,
            name=name,
            labels=Path(labels) if labels else None,
            sample=Path(sample) if sample else None,
            processing=Path(processing) if processing else None,
            preset=preset,
            fuse=fuse,
            include=tuple(map(Path, include)),
            python=str(python),
            message=message,
            actor=current_actor(),
            start_worker=LocalWorker.start,
            progress=progress,
        )
        if worker is not None:
            worker.close()
    return result


def import_into(
    store: Store,
    source: str | Path,
    *,
    name: str | None,
    actor: str,
    start_worker: StartWorker,
    number: int | None = None,
    labels: Path | None = None,
    sample: Path | None = None,
    processing: Path | None = None,
    preset: str = "",
    fuse: bool = False,
    include: tuple[Path, ...] = (),
    python: str = "",
    message: str = "",
    progress: Progress | None = None,
) -> tuple[ImportResult, LocalWorker | None]:
    """`import_model` into an open store, through workers that `start_worker` makes.

    Also returns the worker that has loaded a new version: it is the caller's to close or to serve with. None when nothing was added.
    """
    say = progress or _in_silence
    if is_handler(str(source)):
        from towline.app.importing_handler import import_handler_into

        handler = _handler(source, labels or processing, sample, include, python)
        return import_handler_into(
            store, handler, name=name, number=number, actor=actor, message=message, start_worker=start_worker, say=say
        )
    given = _checked(source, labels, sample, processing, preset, include, fuse=fuse)
    name = check_model_name(name) if name is not None else name_from(given.model)
    with store.stage() as staged:
        say(f"Reading {given.model.name}")
        copied = copy_source(given.model, staged)
        existing = _existing(store, name, number, copied, given)
        if existing is not None:
            return ImportResult(existing, ImportReport(existing.digest, existing.size_bytes, existing.manifest), existed=True), None
        return _import_new(store, name, number, copied, given, start_worker, actor=actor, message=message, say=say)


def _import_new(
    store: Store,
    name: str,
    number: int | None,
    copied: Copied,
    given: _Source,
    start_worker: StartWorker,
    *,
    actor: str,
    message: str,
    say: Progress,
) -> tuple[ImportResult, LocalWorker | None]:
    with Inspection(copied.folder / copied.model_file) as inspection:
        # While another process reads the model, this one loads what the next steps need.
        from towline.app.trying import requests_for
        from towline.convert.report import import_report
        from towline.convert.version import build_version, draft_manifest, write_files, write_labels
        from towline.verify.golden import record_golden
        from towline.verify.smoke import smoke_test

        inspected = inspection.result()
    labels = read_labels(given.labels) if given.labels else None
    prepared = _prepared(given, inspected, labels)
    signature = prepared.outer if prepared else inspected.signature
    requests = requests_for(signature, prepared.processing if prepared else None, given.sample)
    notes: tuple[str, ...] = ()
    if labels is not None:
        write_labels(copied.folder, labels, inspected.signature)
    if prepared is not None:
        write_files(copied.folder, prepared)
    if given.fuse and prepared is not None:
        from towline.app.fusing import fuse_steps

        say("Writing the steps into the graph, and comparing")
        fused = fuse_steps(copied, inspected, prepared, labels, requests, start_worker)
        inspected, prepared, notes = fused.inspected, fused.prepared, (fused.note,)
        signature = prepared.outer
    say("Loading it in a process of its own")
    worker = loaded_by(start_worker, copied.folder, draft_manifest(copied, inspected, prepared, has_labels=labels is not None))
    try:
        say("Trying it: finite, repeatable, each row for itself?")
        smoked = smoke_test(
            worker,
            signature,
            samples=requests.tried,
            heaviest=requests.heaviest,
            unnamed=() if prepared else inspected.unnamed,
            memory_limit_bytes=memory().available_bytes or 0,
        )
        goldens = record_golden(worker, smoked, samples=requests.golden)
        manifest = build_version(copied, inspected, smoked, goldens, prepared=prepared, labels=labels, tools=_tools(given, prepared))
        notes = (*smoked.notes, *notes)
        draft = import_report("", copied.size_bytes, manifest, inspected, notes)
        before = store.numbers(name)
        more = {} if number is None else {"number": number}
        facts = {key: value for key, value in draft.as_json().items() if key not in ("digest", "size_bytes")}
        version = store.publish(copied.folder, name, actor=actor, why=message, data={"source": copied.source_name, **facts}, **more)
    except BaseException:
        worker.close()
        raise
    report = import_report(version.digest, version.size_bytes, manifest, inspected, notes)
    if version.number in before:
        worker.close()
        return ImportResult(version, report, existed=True), None
    return ImportResult(version, report, existed=False), worker


def name_of(source: str | Path) -> str:
    """The name that a source has when none is given: its file's, or a handler's class's."""
    text = str(source)
    return text.rpartition(":")[2] if is_handler(text) else name_from(Path(source))


def _handler(
    source: str | Path, labels: str | Path | None, sample: str | Path | None, include: tuple[Path, ...], python: str
) -> HandlerSource:
    from towline.app.importing_handler import handler_given

    if labels is not None:
        raise UsageError("A handler names the classes of its answers itself.", code="USAGE", field="labels", hint="Leave --labels out.")
    return handler_given(str(source), include=include, sample=Path(sample) if sample else None, python=python)


def name_from(model: Path) -> str:
    """A model's name made of its file's: without .onnx, and `-` for what no name may hold. Raises UsageError when nothing is left."""
    stem = model.name[: -len(".onnx")] if model.name.lower().endswith(".onnx") else model.stem
    legal = re.sub(r"\.{2,}", ".", _NOT_IN_A_NAME.sub("-", stem)).lstrip("._-").rstrip("-")[:MAX_NAME_CHARS]
    if not MODEL_NAME.fullmatch(legal):
        raise UsageError(
            f"No model's name can be made of '{clip(model.name)}': names have letters, digits, '.', '_' and '-'.",
            code="BAD_NAME",
            field="name",
            hint="Give one: --name digits",
        )
    return legal


def _prepared(given: _Source, inspected: Inspected, labels: tuple[str, ...] | None) -> Prepared | None:
    """The processing that was asked for, fitted to the graph."""
    if given.processing is not None:
        return prepare(read_declaration(given.processing), inspected.signature, labels)
    if given.preset:
        return prepare(
            preset(given.preset, inspected.signature, inspected.makers, has_labels=labels is not None), inspected.signature, labels
        )
    return None


def _checked(
    source: str | Path,
    labels: str | Path | None,
    sample: str | Path | None,
    processing: str | Path | None = None,
    preset: str = "",
    include: Sequence[str | Path] = (),
    *,
    fuse: bool = False,
) -> _Source:
    """The paths, once each is known to be a plain file that can be read: before a store is made or a folder staged."""
    if include:
        raise UsageError("Only a handler brings files along.", code="USAGE", field="include", hint="What a model needs lies beside it.")
    if processing and preset:
        raise UsageError("Both a processing file and a preset were given.", hint="A preset is a whole declaration: give one of the two.")
    if fuse and not processing and not preset:
        raise UsageError("--fuse needs steps to fuse.", hint="Declare them: --processing FILE, or --preset imagenet.")
    if preset and preset not in PRESETS:
        raise UsageError(f"There is no preset '{clip(preset)}'.", code="NO_SUCH_PRESET", hint=f"There is: {', '.join(PRESETS)}.")
    named = [Path(path) if path else None for path in (labels, sample, processing)]
    given = _Source(Path(source), labels=named[0], sample=named[1], processing=named[2], preset=preset, fuse=fuse)
    check_file(given.model, "a model file")
    if given.labels is not None:
        check_file(given.labels, "a labels file")
    if given.sample is not None:
        check_file(given.sample, "a file with example inputs")
    if given.processing is not None:
        check_file(given.processing, "a processing declaration (TOML)")
    return given


def _existing(store: Store, name: str, number: int | None, copied: Copied, given: _Source) -> Version | None:
    """The version that this very import made before, if its files are still what they were."""
    version = store.find_source(name, copied.source_digest)
    if version is None or number not in (None, version.number):
        return None
    manifest = version.manifest
    had = (version.path / manifest.labels).read_bytes() if manifest.labels else None
    has = encode_labels(read_labels(given.labels)) if given.labels else None
    tools = manifest.origin.tools
    if had != has or tools.get(SAMPLE) != given.sample_digest or tools.get(_PROCESSING) != given.processing_digest:
        return None
    try:
        check_sealed(version.path, version.digest)
    except VersionError:
        # Imported anew, the store puts the files right.
        return None
    return version


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


def _tools(given: _Source, prepared: Prepared | None) -> dict[str, str]:
    """What took part, and what it was given."""
    import importlib.metadata

    packages = ["onnxruntime", *_packages(prepared)]
    tools = {"towline": towline.__version__, **{package: importlib.metadata.version(package) for package in packages}}
    digests = {SAMPLE: given.sample_digest, _PROCESSING: given.processing_digest}
    return {**tools, **{name: digest for name, digest in digests.items() if digest}}


def _packages(prepared: Prepared | None) -> list[str]:
    """The libraries whose releases may change what processing reads."""
    kinds = {step.kind for step in prepared.processing.before} if prepared else set()
    return [package for kind, package in (("image", "pillow"), ("resample", "soxr"), ("text", "tokenizers")) if kind in kinds]


def _in_silence(sentence: str) -> None:
    """Nobody asked for progress."""
