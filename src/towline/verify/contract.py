"""What verification needs from something that runs a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Runner(Protocol):
    """A version loaded in a worker process of its own."""

    def run(self, inputs: Mapping[str, np.ndarray], *, timeout_s: float = 60.0) -> dict[str, np.ndarray]:
        """Outputs by name, copied. Raises EngineError when the engine refuses, WorkerDied when the process went, DeadlineExceeded."""
        ...

    def memory_bytes(self) -> int:
        """Resident memory of the worker now, in bytes."""
        ...

    def peak_memory_bytes(self) -> int: ...
