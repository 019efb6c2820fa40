"""Candidates of an optimisation: a version's folder with another model in it, loaded and judged before anything is published."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

import towline
from towline.app.importing.sealing import ImportResult, Order, loaded_by, publish
from towline.app.judging.judge import rows_per_run
from towline.app.machine import memory
from towline.app.optimizing.doors import fitting, narrowed
from towline.convert.files import Copied, copy_source
from towline.convert.inspected import Inspected
from towline.convert.onnx import inspect_model
from towline.convert.report import import_report
from towline.convert.version import GOLDEN_FOLDER, MANIFEST_NAME, write_golden, write_new
from towline.core.digest import folder_files, folder_size_bytes
from towline.core.frames import decode_frame
from towline.core.manifest import DEFAULT_SIGNATURE, TENSORS_SIGNATURE, Facts, Manifest, Processing, Signature, encode_manifest
from towline.core.version import Version
from towline.optimize.base import Arrays, Chain
from towline.optimize.quantize import DynamicInt8
from towline.verify.data.dataset import DataSet
from towline.verify.golden import record_golden
from towline.verify.smoke import smoke_test

if TYPE_CHECKING:
    from collections.abc import Mapping

CALIBRATION_ROWS = 200
_MODEL_FOLDER = "model/"


@dataclass(frozen=True)
class Draft:
    """A folder that could become a version, and a manifest good enough to load it."""

    copied: Copied
    inspected: Inspected
    manifest: Manifest

    def version(self, of: Version, name: str) -> Version:
        """As what it will be compared: a version without a number."""
        size_bytes = folder_size_bytes(self.copied.folder)
        return Version(f"{of.name} {name}", 0, "", self.copied.folder, size_bytes, of.created_s, of.engine, of.source_digest)


def draft(of: Version, chosen: Chain, model: Path, into: Path) -> Draft:
    """The version's folder with `model` in place of its own. What belongs to its answers stays behind: they are others.

    Raises PassFailed for a model that takes less than the version did."""
    manifest = of.manifest
    for name in folder_files(of.path):
        if name != MANIFEST_NAME and not name.startswith((_MODEL_FOLDER, f"{GOLDEN_FOLDER}/")):
            (into / name).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            shutil.copyfile(of.path / name, into / name)
    copied = copy_source(model, into)
    inspected = inspect_model(into / copied.model_file)
    tools = {**manifest.origin.tools, "towline": towline.__version__, "pass": f"{chosen.name}: {chosen.settings}"}
    words = f"{of.digest} {chosen.name} {chosen.settings}"
    origin = msgspec.structs.replace(manifest.origin, tools=tools, source_digest="sha256:" + hashlib.sha256(words.encode()).hexdigest())
    drafted = msgspec.structs.replace(
        manifest,
        model_file=copied.model_file,
        facts=Facts(parameters=inspected.parameters, operators=inspected.operators, opset=inspected.opset),
        origin=origin,
        golden=(),
        parents=(of.digest,),
        # Ranges measured at every run make a row's answer depend on its mates; of the others the smoke test proves it before sealing.
        batchable=manifest.batchable and not any(isinstance(one, DynamicInt8) for one in chosen.passes),
    )
    return Draft(copied, inspected, narrowed(drafted, inspected.signature, chosen))


def sealed(order: Order, of: Version, drafted: Draft, evidence: Mapping[str, object], notes: Sequence[str]) -> ImportResult:
    """Try the draft as every import is tried, with the requests that the version it came from is tried with, and publish it."""
    manifest = of.manifest
    replayed = [decode_frame((of.path / golden.request).read_bytes()) for golden in manifest.golden]
    requests = fitting(drafted.manifest.signature, replayed)
    worker = loaded_by(order.start_worker, drafted.copied.folder, drafted.manifest)
    try:
        smoked = smoke_test(worker, drafted.manifest.signature, samples=requests[-1:], memory_limit_bytes=memory().available_bytes or 0)
        goldens = record_golden(worker, smoked, samples=requests)
        final = msgspec.structs.replace(
            drafted.manifest,
            signatures={**manifest.signatures, _default(manifest): smoked.signature},
            batchable=smoked.batchable,
            unbatchable_because=smoked.unbatchable_because,
            measured=smoked.measured,
            padding=smoked.padding,
            unpadded_because=dict(smoked.unpadded_because),
            golden=write_golden(drafted.copied.folder, goldens),
        )
        write_new(drafted.copied.folder / MANIFEST_NAME, encode_manifest(final))
        report = import_report("", drafted.copied.size_bytes, final, drafted.inspected, (*smoked.notes, *notes))
        result, _ = publish(order, drafted.copied, report, worker, evidence)
    finally:
        worker.close()
    return result


def calibration(of: Version, data: DataSet, rows: int = CALIBRATION_ROWS) -> list[dict[str, np.ndarray]]:
    """The first rows as the graph is given them: what declared processing makes of pictures or text is what is calibrated with."""
    manifest = of.manifest
    size = rows_per_run(manifest)
    some = data.first(calibration_rows(manifest, min(rows, data.rows)))
    with reader(of) as read:
        return [dict(read(batch.inputs)) for batch in some.batches(size)]


def calibration_rows(manifest: Manifest, rows: int) -> int:
    """How many of so many rows calibrate. Whole batches only: what collects histograms takes no other shape."""
    size = rows_per_run(manifest)
    return max(rows // size, 1) * size


@contextmanager
def reader(of: Version) -> Iterator[Callable[[Arrays], Arrays]]:
    """Reads what clients send and gives what the graph gets of it: by a worker, where processing is declared."""
    from towline.serve.workers.local import LocalWorker

    manifest = of.manifest
    if not manifest.processing.before:
        yield lambda inputs: inputs
        return
    graph = manifest.signatures[TENSORS_SIGNATURE]
    outer = Signature(manifest.signature.inputs, graph.inputs)
    bare = Signature(graph.inputs, graph.inputs)
    reads = msgspec.structs.replace(
        manifest,
        engine="inputs",
        signatures={DEFAULT_SIGNATURE: outer, TENSORS_SIGNATURE: bare},
        processing=Processing(before=manifest.processing.before),
    )
    with LocalWorker.start(of.path, reads) as worker:
        yield worker.run


def _default(manifest: Manifest) -> str:
    return manifest.signature_names[0]
