"""An engine that answers with what the graph would be given: how rows of pictures or text become tensors for calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from towline.core.engine import EngineOptions
from towline.core.errors import EngineError
from towline.core.manifest import Manifest, Signature


class InputsEngine:
    name = "inputs"
    starts_no_threads = True

    def load(self, folder: Path, manifest: Manifest, options: EngineOptions) -> InputsSession:
        return InputsSession([spec.name for spec in manifest.signature.inputs])

    def describe(self, folder: Path, model_file: str) -> Signature:
        raise EngineError("This engine reads no model.", code="UNSUPPORTED")

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)


class InputsSession:
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        return [inputs[name] for name in self._names]

    def terminate(self, slot: int) -> None:
        """A run has ended before this is called."""
