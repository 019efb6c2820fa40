"""The model behind Ray Serve: a cluster of this one machine, one replica."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import ray
from ray import serve
from served import BATCHING, MAX_BATCH, MAX_WAIT_MS, PORT, Array, Served
from starlette.requests import Request

OBJECT_STORE_BYTES = 100 << 20


async def rows_of(served: Served, request: Request) -> Array:
    if request.headers.get("content-type") == "application/octet-stream":
        return served.from_bytes(await request.body())
    return served.from_lists((await request.json())["x"])


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.1})
class OneByOne:
    def __init__(self) -> None:
        self._served = Served()

    async def __call__(self, request: Request) -> dict[str, Any]:
        return {"y": self._served.run(await rows_of(self._served, request))[0].tolist()}


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.1})
class Batched:
    def __init__(self) -> None:
        self._served = Served()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=MAX_WAIT_MS / 1e3)
    async def run(self, rows: list[Array]) -> list[Array]:
        return list(self._served.run(np.concatenate(rows)))

    async def __call__(self, request: Request) -> dict[str, Any]:
        return {"y": (await self.run(await rows_of(self._served, request))).tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=os.environ["RAY_FOLDER"], object_store_memory=OBJECT_STORE_BYTES)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run((Batched if BATCHING else OneByOne).bind(), route_prefix="/predict")
    signal.pause()
