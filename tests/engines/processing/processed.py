"""Load a tiny graph with processing around it, in this process: what the tests of each kind of step begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from towline.convert.declaration import read_declaration
from towline.convert.processing import Prepared, prepare
from towline.convert.version import write_files, write_labels
from towline.core.engine import EngineOptions, Session
from towline.core.manifest import DEFAULT_SIGNATURE, TENSORS_SIGNATURE, Facts, Manifest, Measured, Origin
from towline.engines.loading import load_session
from towline.engines.onnxruntime import OnnxRuntimeEngine


class Processed:
    """`run(image=[…])` takes the rows of each input and gives the outputs by name."""

    def __init__(self, session: Session, manifest: Manifest) -> None:
        self.session = session
        self.manifest = manifest

    def run(self, signature: str = "", **inputs: list[object]) -> dict[str, np.ndarray]:
        arrays = {name: _array(rows) for name, rows in inputs.items()}
        outputs = self.session.run(arrays, **({"signature": signature} if signature else {}))
        specs = self.manifest.signatures[signature or DEFAULT_SIGNATURE].outputs
        return {spec.name: array for spec, array in zip(specs, outputs, strict=True)}


def prepared(folder: Path, model: bytes, declaration: str, labels: tuple[str, ...] | None = None) -> Prepared:
    """The declaration, fitted to the graph. It and the files it names are in `folder`."""
    (folder / "model.onnx").write_bytes(model)
    place = folder / "processing.toml"
    place.write_text(declaration, encoding="utf-8")
    return prepare(read_declaration(place), OnnxRuntimeEngine().describe(folder, "model.onnx"), labels)


def load(folder: Path, model: bytes, declaration: str, labels: tuple[str, ...] | None = None) -> Processed:
    fitted = prepared(folder, model, declaration, labels)
    graph = OnnxRuntimeEngine().describe(folder, "model.onnx")
    if labels is not None:
        write_labels(folder, labels, graph)
    write_files(folder, fitted)
    manifest = Manifest(
        format=1,
        engine="onnxruntime",
        model_file="model.onnx",
        signatures={DEFAULT_SIGNATURE: fitted.outer, TENSORS_SIGNATURE: graph},
        batchable=False,
        origin=Origin(format="onnx", source_digest="sha256:00"),
        facts=Facts(parameters=0, operators={}, opset={}),
        measured=Measured(cpu="x", deterministic=True, memory_loaded_bytes=0, memory_peak_bytes=0, max_batch=1),
        labels="labels.txt" if labels is not None else None,
        processing=fitted.processing,
    )
    return Processed(load_session(OnnxRuntimeEngine(), folder, manifest, EngineOptions()), manifest)


def _array(rows: list[object]) -> np.ndarray:
    if not isinstance(rows[0], bytes | str):
        return np.asarray(rows)
    array = np.empty(len(rows), dtype=object)
    array[:] = [row.encode() if isinstance(row, str) else row for row in rows]
    return array
