"""The model behind mosec: a Rust front, one worker process."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from mosec import Server, Worker
from served import BATCHING, MAX_BATCH, MAX_WAIT_MS, Served


class Json(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.served = Served()

    def forward(self, data: Any) -> Any:
        if not BATCHING:
            return {"y": self.served.run(self.served.from_lists(data["x"]))[0].tolist()}
        rows = np.concatenate([self.served.from_lists(one["x"]) for one in data])
        return [{"y": answer} for answer in self.served.run(rows).tolist()]


class Raw(Json):
    def deserialize(self, data: bytes) -> Any:
        return {"x": self.served.from_bytes(data)}


if __name__ == "__main__":
    server = Server()
    batching = {"max_batch_size": MAX_BATCH, "max_wait_time": MAX_WAIT_MS} if BATCHING else {}
    server.append_worker(Raw if os.environ["DIALECT"] == "raw" else Json, num=1, **batching)
    server.run()
