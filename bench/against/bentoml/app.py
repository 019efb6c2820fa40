"""The model behind BentoML: JSON for the small one, a file for the image, as it takes no plain bytes."""

# No `from __future__ import annotations`: BentoML reads the types of the methods when they are defined.

from pathlib import Path

import bentoml
import numpy as np
from served import BATCHING, MAX_BATCH, Served

# It measures how long batches take and holds them below max_latency_ms, rather than wait for a fixed time.
OPTIONS = {"batchable": True, "batch_dim": 0, "max_batch_size": MAX_BATCH, "max_latency_ms": 10_000} if BATCHING else {}


@bentoml.service(workers=1, traffic={"timeout": 30})
class Service:
    def __init__(self) -> None:
        self.served = Served()

    @bentoml.api(route="/predict", **OPTIONS)
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.served.run(self.served.from_lists(x))

    if BATCHING:

        @bentoml.api(route="/file", **OPTIONS)
        def file(self, x: list[Path]) -> np.ndarray:
            return self.served.run(np.concatenate([self.served.from_bytes(path.read_bytes()) for path in x]))

    else:

        @bentoml.api(route="/file")
        def file(self, x: Path) -> np.ndarray:
            return self.served.run(self.served.from_bytes(x.read_bytes()))
