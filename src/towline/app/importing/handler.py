"""Import a user's handler class: copy, have it described, load, try, seal. Its code runs in processes of their own only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import towline
from towline.app.importing.given import SAMPLE
from towline.app.importing.sealing import ImportResult, Order, Progress, loaded_by, publish
from towline.app.machine import memory
from towline.app.sources import check_file
from towline.convert.files import Copied
from towline.convert.handler import copy_handler, describe_handler, handler_manifest, handler_source, seal_handler, source_digest
from towline.convert.report import ImportReport
from towline.convert.version import RecordedGolden
from towline.core.cpu import cpu_kind
from towline.core.errors import ImportRefused, UsageError, VersionError
from towline.core.handler import BODY, Described
from towline.core.manifest import Manifest, Measured, Signature
from towline.core.plain_file import read_plain_file
from towline.core.store import Store
from towline.core.version import Version, check_sealed

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker

_MAX_SAMPLE_BYTES = 64 << 20


@dataclass(frozen=True)
class HandlerSource:
    """A handler's file and class, and what its owner gave with it."""

    file: Path
    class_name: str
    include: tuple[Path, ...] = ()
    sample: Path | None = None
    python: str = ""

    def sample_digest(self) -> dict[str, str]:
        if self.sample is None:
            return {}
        return {SAMPLE: "sha256:" + hashlib.sha256(read_plain_file(self.sample, _MAX_SAMPLE_BYTES, _bad_sample)).hexdigest()}


def handler_given(source: str, *, include: Sequence[Path] = (), sample: Path | None = None, python: str = "") -> HandlerSource:
    """What `FILE.py:CLASS` names, once its files are known to be there. Raises UsageError."""
    found = handler_source(source)
    if found is None:
        alone = source.rpartition(":")[0] if ":" in source else source
        raise UsageError(f"{source}: which class of this file is the handler?", code="NO_CLASS", hint=f"Say {alone}:ClassName.")
    file, class_name = found
    check_file(file, "a Python file")
    if sample is not None:
        check_file(sample, "a file with an example body")
    for path in include:
        if not path.exists():
            raise UsageError(
                f"{path}: No such file or folder; it is to come with the handler.", code="NO_SUCH_FILE", hint="Check the path."
            )
    if python and not (os.path.isfile(python) and os.access(python, os.X_OK)):
        raise UsageError(f"{python}: not a program.", code="NO_SUCH_FILE", field="python", hint="Give ENVIRONMENT/bin/python.")
    # Not resolved: the link of an environment to its Python is what says which environment it is.
    return HandlerSource(file, class_name, tuple(include), sample, os.path.abspath(python) if python else "")


def import_handler(order: Order, given: HandlerSource) -> tuple[ImportResult, LocalWorker | None]:
    """Also returns the worker, when it is new and holds nothing that clients must not see."""
    with order.store.stage() as staged:
        order.say(f"Copying {given.file.name}")
        copied = copy_handler(given.file, given.include, staged)
        existing = _existing(order.store, order.name, order.number, copied, given)
        if existing is not None:
            return ImportResult(existing, ImportReport(existing.digest, existing.size_bytes, existing.manifest), existed=True), None
        order.say(f"Importing {given.class_name} in a process of its own")
        described = describe_handler(copied, given.class_name, python=given.python)
        order.say("Setting it up in a worker")
        worker = loaded_by(order.start_worker, copied.folder, _draft(copied, described))
        try:
            manifest, notes = _tried(worker, copied, described, given, order.say)
            result, kept = publish(order, copied, ImportReport("", copied.size_bytes, manifest, notes), worker)
        except BaseException:
            worker.close()
            raise
    if described.handler.stateful and kept is not None:
        # What it was tried with is in its state, which no client is to see.
        kept.close()
        return result, None
    return result, kept


def _draft(copied: Copied, described: Described) -> Manifest:
    measured = Measured(cpu_kind(), deterministic=False, memory_loaded_bytes=0, memory_peak_bytes=0, max_batch=1)
    return handler_manifest(copied, described, described.signature, measured, unbatchable_because="not tested yet", tools={})


def _tried(
    worker: LocalWorker, copied: Copied, described: Described, given: HandlerSource, say: Progress
) -> tuple[Manifest, tuple[str, ...]]:
    """The sealed folder's manifest, and sentences for the report."""
    tools = {"towline": towline.__version__, "python": described.python_version, **given.sample_digest()}
    tried = _tried_tensors if not described.handler.passes_body else _tried_bodies
    signature, measured, because, goldens, notes = tried(worker, described, given, say)
    manifest = handler_manifest(copied, described, signature, measured, unbatchable_because=because, tools=tools)
    return seal_handler(copied.folder, manifest, goldens), notes


_Tried = tuple[Signature, Measured, str, Sequence[RecordedGolden], tuple[str, ...]]


def _tried_tensors(worker: LocalWorker, described: Described, given: HandlerSource, say: Progress) -> _Tried:
    from towline.verify.golden import record_golden
    from towline.verify.samples import load_sample
    from towline.verify.smoke import smoke_test

    samples = [load_sample(given.sample, described.signature)] if given.sample else []
    say("Trying it: finite, repeatable, each row for itself?")
    smoked = smoke_test(worker, described.signature, samples=samples, memory_limit_bytes=memory().available_bytes or 0)
    measured = smoked.measured
    goldens = [] if described.handler.stateful else record_golden(worker, smoked, samples=samples)
    because = _why_alone(described) or smoked.unbatchable_because
    most = measured.max_batch if described.max_batch == 1 else min(measured.max_batch, described.max_batch)
    kept = Measured(measured.cpu, measured.deterministic, measured.memory_loaded_bytes, measured.memory_peak_bytes, most)
    return smoked.signature, kept, because, goldens, smoked.notes


def _tried_bodies(worker: LocalWorker, described: Described, given: HandlerSource, say: Progress) -> _Tried:
    from towline.verify.bodies import try_body

    body = described.sample if given.sample is None else read_plain_file(given.sample, _MAX_SAMPLE_BYTES, _bad_sample)
    say("Trying it with its sample" if body is not None else "Nothing to try it with")
    tried = try_body(worker, BODY, body, max_batch=described.max_batch, is_repeatable=not described.handler.stateful)
    return described.signature, tried.measured, _why_alone(described), tried.golden, tried.notes


def _why_alone(described: Described) -> str:
    """Why requests never share a run, or nothing. Of bodies nothing but the class's own word tells that they may."""
    if described.handler.streams:
        return "it answers in parts"
    if described.handler.stateful:
        return "it keeps state"
    return "its max_batch is 1" if described.max_batch == 1 else ""


def _existing(store: Store, name: str, number: int | None, copied: Copied, given: HandlerSource) -> Version | None:
    """The version that this very import made before, if its files are still what they were."""
    version = store.find_source(name, source_digest(copied, given.class_name))
    if version is None or number not in (None, version.number):
        return None
    tools, handler = version.manifest.origin.tools, version.manifest.handler
    if handler is None or handler.python != given.python or tools.get(SAMPLE) != given.sample_digest().get(SAMPLE):
        return None
    try:
        check_sealed(version.path, version.digest)
    except VersionError:
        return None
    return version


def _bad_sample(why: str) -> ImportRefused:
    return ImportRefused(f"The sample cannot be used: {why}.", code="BAD_SAMPLE", field="sample", hint="Give a file that holds one body.")
