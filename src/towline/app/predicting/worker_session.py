"""A version loaded for this process whose code runs in a worker, which ends with the session: a handler, or another environment's."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from towline.core.manifest import Manifest
from towline.serve.workers.local import LocalWorker

_NO_LIMIT_S = 24 * 3600.0


class WorkerSession:
    """A Session (core/engine.py) whose runs happen elsewhere, one at a time."""

    def __init__(self, folder: Path, manifest: Manifest, device: str) -> None:
        self._worker = LocalWorker.start(folder, manifest, device=device)
        self._names = [spec.name for spec in manifest.signature.outputs]
        self._timeout_s = (manifest.handler and manifest.handler.timeout_s) or _NO_LIMIT_S
        self._lock = threading.Lock()
        weakref.finalize(self, self._worker.close)

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        with self._lock:
            outputs = self._worker.run(inputs, timeout_s=self._timeout_s)
        return [outputs[name] for name in self._names]

    def terminate(self, slot: int) -> None:
        """Nobody here asks: a run ends by itself, or with its deadline."""
