"""The same version under another engine: proven to answer as it does, measured beside it, and published if that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from towline.app.exporting.tflite import Other, compared, lite_manifest, lite_names, to_tflite
from towline.app.importing.sealing import ImportResult, Order
from towline.app.optimizing.candidates import Draft, draft, sealed
from towline.convert.base import ConversionFailed
from towline.convert.onnx2tf import MODEL_NAME
from towline.core.environments import python_of
from towline.core.errors import InvalidRequest
from towline.core.manifest import Manifest, encode_manifest
from towline.core.version import Version
from towline.optimize.base import Chain

# Those that run what is made of an ONNX file, each in an environment of its own.
ENGINES = ("openvino", "litert")


@dataclass(frozen=True)
class Engined:
    """A folder that a worker of `engine` can load, and what the version's inputs and outputs are called there."""

    engine: str
    folder: Path
    names: Mapping[str, str]


def under(of: Version, engine: str, into: Path, say: Callable[[str], None]) -> Engined:
    """Write the version for `engine` into the empty folder `into`.

    Raises MissingExtra where the engine's environment is missing, InvalidRequest for a version that it cannot run, ConversionFailed where
    it answers otherwise.
    """
    manifest = of.manifest
    if manifest.engine != "onnxruntime" or manifest.handler is not None or manifest.model_files:
        raise InvalidRequest(f"{of} is no single ONNX file, so no other engine can take it.", code="NOT_PORTABLE")
    if engine == "litert":
        return _under_litert(of, manifest, into, say)
    python_of(engine)
    drafted = _drafted(of, engine, into)
    (into / "manifest.json").write_bytes(encode_manifest(drafted.manifest))
    say(f"Comparing its answers under {engine} with the version's")
    names = {spec.name: spec.name for one in manifest.signatures.values() for spec in (*one.inputs, *one.outputs)}
    graphs = [one.bare() if one.processing else one for one in (manifest, drafted.manifest)]
    parity = compared(of, graphs[0], Other(f"The graph under {engine}", into, graphs[1], names))
    if not parity.passed:
        raise ConversionFailed(f"Under {engine} it does not answer as it did: {parity.because}", code="NOT_EQUAL")
    return Engined(engine, into, names)


def _drafted(of: Version, engine: str, into: Path) -> Draft:
    drafted = draft(of, Chain(()), of.path / of.manifest.model_file, into)
    origin = msgspec.structs.replace(of.manifest.origin, tools={**of.manifest.origin.tools, "engine": engine})
    return Draft(
        drafted.copied, drafted.inspected, msgspec.structs.replace(drafted.manifest, engine=engine, environment=engine, origin=origin)
    )


def _under_litert(of: Version, manifest: Manifest, into: Path, say: Callable[[str], None]) -> Engined:
    if manifest.processing:
        raise InvalidRequest(f"{of} declares processing, which a TensorFlow Lite file is measured without.", code="NOT_PORTABLE")
    to_tflite(of, manifest, into / MODEL_NAME, say)
    (into / "manifest.json").write_bytes(encode_manifest(lite_manifest(manifest)))
    return Engined("litert", into, lite_names(manifest.signature))


def publish_under(of: Version, engine: str, order: Order, evidence: Mapping[str, object], notes: Sequence[str]) -> ImportResult:
    """The version as a new one that `engine` runs, with the first as its parent; tried as every import is. Of `openvino` only."""
    with order.store.stage() as staged:
        return sealed(order, of, _drafted(of, engine, staged), evidence, notes)
