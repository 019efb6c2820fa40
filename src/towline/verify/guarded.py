"""A runner whose death or silence during import is the model's refusal, not an accident of the service."""

from __future__ import annotations

import signal
from collections.abc import Mapping

import numpy as np

from towline.core.errors import DeadlineExceeded, ImportRefused, WorkerDied
from towline.verify.contract import Runner


class Guarded:
    """Wraps a Runner: EngineError passes through, everything worse becomes ImportRefused. Strings come back as bytes."""

    def __init__(self, runner: Runner, timeout_s: float) -> None:
        self._runner = runner
        self._timeout_s = timeout_s

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            outputs = self._runner.run(inputs, timeout_s=self._timeout_s)
        except WorkerDied as death:
            raise ImportRefused(
                f"The engine process {_how(death.signal_number)} while it answered an input of the smoke test; such a model is not taken.",
                code="ENGINE_CRASHED",
                hint="If only these values kill it, give an input that it takes: --sample FILE.",
            ) from death
        except DeadlineExceeded as late:
            raise ImportRefused(
                f"The model did not answer an input of the smoke test within {self._timeout_s:g} seconds.",
                code="SMOKE_TEST_TIMEOUT",
                hint="Give a smaller input: --sample FILE.",
            ) from late
        return {name: plain(array) for name, array in outputs.items()}

    def memory_bytes(self) -> int:
        return self._runner.memory_bytes()

    def peak_memory_bytes(self) -> int:
        return self._runner.peak_memory_bytes()


def _how(number: int) -> str:
    try:
        return f"died by {signal.Signals(number).name}"
    except ValueError:
        return "ended"


def plain(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "OSU":
        return np.asarray(array)
    plain = np.empty(array.shape, dtype=object)
    for index, element in np.ndenumerate(array):
        plain[index] = element if isinstance(element, bytes) else str(element).encode()
    return plain
