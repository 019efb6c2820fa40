"""Convert a version to TensorFlow Lite, and prove that the file answers as the version does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from towline.app.predicting.worker_session import WorkerSession
from towline.convert.base import ConversionFailed, Task
from towline.convert.files import DEFAULT_MAX_BYTES
from towline.convert.foreign.converter import Converter
from towline.convert.foreign.importers import Entry
from towline.convert.onnx2tf import MODEL_NAME, names_in_file
from towline.convert.tree import copy_tree
from towline.core.environments import python_of
from towline.core.errors import EngineError, InvalidRequest
from towline.core.frames import decode_frame
from towline.core.manifest import DEFAULT_SIGNATURE, Manifest, Signature
from towline.core.version import Version
from towline.verify.guarded import plain
from towline.verify.parity.compare import Pair, Parity, judge
from towline.verify.parity.requests import parity_requests
from towline.verify.parity.tolerance import tolerance_for

_ENTRY = Entry("onnx2tf", "onnx2tf", "towline.convert.onnx2tf:OnnxToTflite")
_ENGINE = _ENVIRONMENT = "litert"


def to_tflite(version: Version, manifest: Manifest, out: Path, progress: Callable[[str], None]) -> tuple[Parity, tuple[str, ...]]:
    """Write the file `out`, with the proof and what is to be known of it; or raise ConversionFailed with what differs.

    Both environments are asked for before any work is done.
    """
    if manifest.model_files:
        message = f"{version} has {len(manifest.signatures)} signatures in files of their own; a TensorFlow Lite file is made of one."
        raise InvalidRequest(message, code="NOT_EXPORTABLE")
    python = python_of(_ENTRY.environment)
    python_of(_ENVIRONMENT)
    graph = manifest.bare() if manifest.processing else manifest
    with _converted(version, manifest, python, progress) as folder:
        lite = lite_manifest(graph)
        progress("Comparing its answers with the version's")
        parity = compared(version, graph, Other("The TensorFlow Lite file", folder, lite, lite_names(graph.signature)))
        if not parity.passed:
            raise ConversionFailed(
                f"The TensorFlow Lite file does not answer as {version} does: {parity.because}",
                code="NOT_EQUAL",
                hint="Nothing was written. The ONNX file can be exported: --to onnx",
            )
        shutil.copyfile(folder / lite.model_file, out)
    renamed = [f"'{own}' is '{new}' in the file." for own, new in lite_names(graph.signature).items() if own != new]
    return parity, tuple(renamed)


@contextmanager
def _converted(version: Version, manifest: Manifest, python: str, progress: Callable[[str], None]) -> Iterator[Path]:
    """A folder with model.tflite, of fresh plain files: whoever wrote them read a graph that nobody vouches for."""
    from towline.secure.sandbox.launch import launch

    with tempfile.TemporaryDirectory(prefix="towline-export-") as name:
        scratch, taken = Path(name, "scratch"), Path(name, "taken")
        scratch.mkdir(mode=0o700)
        model = version.path / manifest.model_file
        progress("Converting it with onnx2tf, behind walls; that takes a minute or more")
        with Converter(_ENTRY, Task(model, scratch), python=python, launch=launch, reads=(model.parent,)) as converter:
            routes = converter.load().routes
            folder, converted = converter.convert(routes[0])
            if set(converted.files) != {DEFAULT_SIGNATURE}:
                raise ConversionFailed("The converter made other files than it was asked for.", code="CONVERTER_BROKEN")
            copy_tree(folder, taken, "taken", max_bytes=DEFAULT_MAX_BYTES)
        yield taken


def lite_manifest(graph: Manifest) -> Manifest:
    """What the file is to be: the same signature, by the names that it can have."""
    own, names = graph.signature, lite_names(graph.signature)
    sides = (tuple(msgspec.structs.replace(spec, name=names[spec.name]) for spec in side) for side in (own.inputs, own.outputs))
    return msgspec.structs.replace(
        graph,
        engine=_ENGINE,
        environment=_ENVIRONMENT,
        model_file=MODEL_NAME,
        signatures={DEFAULT_SIGNATURE: Signature(*sides)},
        golden=(),
        source_answers=(),
        labels=None,
    )


def lite_names(own: Signature) -> dict[str, str]:
    """What the inputs and outputs of this signature are called in the file."""
    return names_in_file(spec.name for spec in (*own.inputs, *own.outputs))


@dataclass(frozen=True)
class Other:
    """What is to answer as a version does: what to call it, where it is, and what the version's inputs and outputs are called there."""

    called: str
    folder: Path
    manifest: Manifest
    names: Mapping[str, str]


def compared(version: Version, graph: Manifest, other: Other) -> Parity:
    """On the golden requests and batches drawn from them; on drawn ones where the golden ones are pictures or text and not tensors.

    `graph` is the version's manifest, or its bare graph's. Raises ConversionFailed where nothing could be compared.
    """
    golden = [] if graph.signatures.keys() != version.manifest.signatures.keys() else list(_golden(version, graph))
    ours, theirs = (WorkerSession(*one, "cpu") for one in ((version.path, graph), (other.folder, other.manifest)))
    names = other.names
    pairs: list[Pair] = []
    for request in parity_requests(graph.signature, samples=golden):
        try:
            expected = _run(ours, graph, request)
        except EngineError:
            # What the version refuses proves nothing.
            continue
        try:
            got = _run(theirs, other.manifest, {names[name]: array for name, array in request.items()})
        except EngineError as error:
            raise ConversionFailed(f"{other.called} refuses what {version} answers: {error.message}", code="NOT_EQUAL") from None
        pairs.append((request, expected, {name: got[names[name]] for name in expected}))
    if not pairs:
        raise ConversionFailed(f"{version} refused every input that was made up, so nothing could be compared.", code="NOTHING_TO_COMPARE")
    return judge(pairs, tolerance_for(graph.signature))


def _golden(version: Version, graph: Manifest) -> Iterator[dict[str, np.ndarray]]:
    for one in graph.golden:
        yield decode_frame((version.path / one.request).read_bytes())


def _run(session: WorkerSession, manifest: Manifest, request: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    outputs = zip(manifest.signature.outputs, session.run(request), strict=True)
    return {spec.name: plain(array) for spec, array in outputs}
