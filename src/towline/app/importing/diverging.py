"""Find out why a converted model does not answer as its source: give its input otherwise, and look at its layers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from towline.convert import wording
from towline.convert.made import ONNX_ENGINE
from towline.convert.probing import WEIGHTS_NAME, with_outputs
from towline.core.errors import DeadlineExceeded, EngineError, ImportRefused, VersionError, WorkerDied
from towline.core.frames import decode_frame
from towline.core.manifest import DEFAULT_SIGNATURE, Manifest, Signature
from towline.verify.parity.compare import Tolerance, judge
from towline.verify.parity.diverge import Divergence, first_divergence, first_unmatched
from towline.verify.parity.variants import variants
from towline.verify.parity.weights import trailing_zeros

if TYPE_CHECKING:
    from towline.app.importing.trying import StartWorker

# What may go wrong while somebody else's graph is run: then there is no more to tell, and the refusal stands as it is.
_NO_ANSWER = (EngineError, VersionError, WorkerDied, DeadlineExceeded, ImportRefused)
_PROBE = "probe.onnx"


@dataclass(frozen=True)
class Conversion:
    """A folder with a conversion that `manifest` describes and a worker can load.

    `tensors` tells which tensor of the graph is which layer of the source (convert/base.py: Converted.layers), where a converter knows.
    """

    folder: Path
    manifest: Manifest
    signature: str
    tensors: Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """A request that the conversion answers wrongly, the source's answer, and what comes out of each of its layers."""

    request: Mapping[str, np.ndarray]
    answer: Mapping[str, np.ndarray]
    layers: Sequence[tuple[str, str, np.ndarray]] = ()


def explain(conversion: Conversion, case: Case, tolerance: Tolerance, start_worker: StartWorker) -> str:
    """Sentences to stand behind a verdict, or nothing: what input the conversion expects, or at which layer it departs."""
    try:
        if said := _expecting(conversion, case, tolerance, start_worker):
            return said
        if conversion.manifest.engine != ONNX_ENGINE:
            return ""
        with tempfile.TemporaryDirectory(prefix="towline-probe-") as scratch:
            return _looked_into(conversion, case, Path(scratch) / "model", start_worker)
    except _NO_ANSWER:
        return ""


def _expecting(conversion: Conversion, case: Case, tolerance: Tolerance, start_worker: StartWorker) -> str:
    """What input the conversion would answer rightly, if it is a usual mistake."""
    names = conversion.manifest.signature_names
    worker = start_worker(conversion.folder, conversion.manifest)
    try:
        for said, request in variants(conversion.manifest.signatures[conversion.signature], case.request):
            try:
                answer = worker.run(request, place=names.index(conversion.signature))
            except EngineError:
                continue
            if judge([(request, case.answer, answer)], tolerance).passed:
                return f"{said}: given so, it answers as the source does."
    finally:
        worker.close()
    return ""


def _looked_into(conversion: Conversion, case: Case, copy: Path, start_worker: StartWorker) -> str:
    manifest = conversion.manifest
    shutil.copytree(conversion.folder, copy)
    model = copy / manifest.model_files.get(conversion.signature, manifest.model_file)
    probe = with_outputs(model, tuple(conversion.tensors.values()), model.with_name(_PROBE))
    said = _of_weights(model.with_name(WEIGHTS_NAME))
    if case.layers and probe.tensors:
        own = manifest.signatures[conversion.signature]
        probing = msgspec.structs.replace(
            manifest,
            model_file=str(model.with_name(_PROBE).relative_to(copy)),
            model_files={},
            signatures={DEFAULT_SIGNATURE: Signature(own.inputs, (*own.outputs, *probe.tensors))},
        )
        worker = start_worker(copy, probing)
        try:
            found = _departure(case, conversion.tensors, worker.run(case.request))
        finally:
            worker.close()
        said = [*([found.words()] if found is not None else []), *said]
    return " ".join(said)


def _departure(case: Case, tensors: Mapping[str, str], answers: Mapping[str, np.ndarray]) -> Divergence | None:
    if tensors:
        return first_divergence(case.layers, {name: answers[tensor] for name, tensor in tensors.items() if tensor in answers})
    return first_unmatched(case.layers, list(answers.values()))


def _of_weights(path: Path) -> list[str]:
    weights = decode_frame(path.read_bytes())
    short = {name: share for name, array in weights.items() if (share := trailing_zeros(array))}
    return [
        f"The last {100 * share:.0f} % of weight {wording.name(name)} are zeros: it looks truncated."
        for name, share in list(short.items())[:3]
    ]
