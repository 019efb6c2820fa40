"""Load a version into this process: `towline.load("digits").predict(x)`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from towline.app.listing import existing_store
from towline.app.sources import is_handler
from towline.client.tensors import as_tensor, named_inputs
from towline.core import dtypes
from towline.core.engine import EngineOptions, Session
from towline.core.errors import VersionError
from towline.core.manifest import Manifest, Signature
from towline.core.refs import Ref, parse_ref
from towline.core.version import Version, check_sealed
from towline.core.warmup import warm

MAX_LABEL_BYTES = 16 << 20


class Model:
    """A version loaded in this process, for notebooks and embedding; threads may share it.

    A model that crashes takes this process with it: `towline serve` is what isolates.
    """

    def __init__(self, version: Version, manifest: Manifest, session: Session) -> None:
        from towline.serve.codecs.check import MAX_DIM, InputCheck, Limits

        self.version = version
        self.manifest = manifest
        self._session = session
        # The server's own check, without its bound on the batch: here the caller's memory is the caller's.
        self._check = InputCheck(manifest.signature, Limits(max_batch=MAX_DIM))
        self._names = [spec.name for spec in manifest.signature.inputs]

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of the inputs and outputs."""
        return self.manifest.signature

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels given at import, one per class; empty when there were none."""
        if self.manifest.labels is None:
            return ()
        with (self.version.path / self.manifest.labels).open("rb") as file:
            return tuple(file.read(MAX_LABEL_BYTES).decode("utf-8").splitlines())

    def predict(self, inputs: Any) -> Any:
        """Run on one array, or on a dict of arrays by name; lists become arrays of the signature's dtypes.

        Shapes are those of the signature, the batch axis included. Returns an array when one array was given and there is one
        output, else a dict of arrays by name; strings are object arrays of bytes. Raises InvalidRequest, EngineError.
        """
        tensors = self._checked(inputs)
        arrays = self._session.run(tensors)
        outputs = {spec.name: _as_bytes(array) for spec, array in zip(self.signature.outputs, arrays, strict=True)}
        if len(outputs) == 1 and not isinstance(inputs, Mapping):
            return next(iter(outputs.values()))
        return outputs

    def __repr__(self) -> str:
        return f"<towline.Model {self.version}>"

    def _checked(self, inputs: Any) -> dict[str, np.ndarray]:
        named = named_inputs(inputs, self._names)
        tensors = {spec.name: as_tensor(spec.name, named[spec.name], dtypes.BY_NAME[spec.dtype]) for spec in self.signature.inputs}
        self._check.rows([tensors[name].shape for name in self._names], self._names)
        return tensors


def load(ref_or_path: str | Path | Ref, *, home: str | Path | None = None, device: str = "cpu") -> Model:
    """Load `digits`, `digits:3`, `digits@champion` or `sha256:…` from the store, or import a model file first and load that.

    The files must be what the digest says, and the answers to the golden requests what they were at import; else VersionError.
    """
    version = version_of(ref_or_path, home)
    check_sealed(version.path, version.digest)
    manifest = version.manifest
    session = _session(version, manifest, device)
    report = warm(session.run, version.path, manifest)
    if not report.is_ready:
        raise VersionError(f"{version} is not fit for use here. {report.reason}", code="NOT_AS_IMPORTED")
    return Model(version, manifest, session)


def _session(version: Version, manifest: Manifest, device: str) -> Session:
    if manifest.handler is not None or manifest.environment:
        # A user's code runs in a process of its own, here as in a server; so does what needs another Python.
        from towline.app.predicting.worker_session import WorkerSession

        return WorkerSession(version.path, manifest, device)
    # By name and late: the engine brings its framework into this process.
    from towline.engines.loading import load_engine, load_session

    return load_session(load_engine(manifest.engine), version.path, manifest, EngineOptions(device=device))


def is_model_file(text: str) -> bool:
    """Whether a word means a file or a handler rather than a ref: it holds a `/`, ends in .onnx, or is the name of a file here."""
    return is_handler(text) or "/" in text or text.lower().endswith(".onnx") or Path(text).is_file()


def version_of(ref_or_path: str | Path | Ref, home: str | Path | None) -> Version:
    """What a ref or a path means; a file is imported first."""
    if isinstance(ref_or_path, Path) or (isinstance(ref_or_path, str) and is_model_file(ref_or_path)):
        from towline.app.importing.model import import_model

        return import_model(ref_or_path, home=home).version
    asked = ref_or_path if isinstance(ref_or_path, Ref) else parse_ref(ref_or_path)
    with existing_store(home, asked) as store:
        return store.version(asked)


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """Text as bytes, as it arrives from a server too."""
    if array.dtype.kind not in "OU":
        return array
    flat = np.empty(array.size, dtype=object)
    for index, element in enumerate(array.reshape(-1)):
        flat[index] = element if isinstance(element, bytes) else str(element).encode()
    return flat.reshape(array.shape)
