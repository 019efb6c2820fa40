"""A worker whose engine is slow to hear that a run is to stop: python late_terminate_worker.py LINK_FD CONTROL_FD"""

from __future__ import annotations

import socket
import sys
import threading
from typing import Any

import numpy as np

from towline.core.errors import EngineError
from towline.engines.host import run_worker

# What an x makes of a run: it ends at once, or waits to be stopped.
ENDS, WAITS = 0.0, 1.0
PATIENCE_S = 0.25


class Late:
    """Engine and session. Stops whatever runs PATIENCE_S after it was asked to, or at once when a run that waits has begun."""

    def __init__(self) -> None:
        self._waits = threading.Event()
        self._stop = threading.Event()

    def load(self, folder: Any, manifest: Any, options: Any) -> Late:
        return self

    def run(self, inputs: Any, *, slot: int = 0, signature: str = "") -> list[np.ndarray]:
        if inputs["x"][0] == WAITS:
            self._waits.set()
            if self._stop.wait(PATIENCE_S):
                raise EngineError("Stopped.", code="TERMINATED")
        return [inputs["x"]]

    def terminate(self, slot: int) -> None:
        # What it finds running then is what it stops: an engine knows the slot, and not who asked.
        if self._waits.wait(PATIENCE_S):
            self._stop.set()


if __name__ == "__main__":
    run_worker(Late, *(socket.socket(fileno=int(word)) for word in sys.argv[1:]))
