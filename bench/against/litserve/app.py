"""The model behind LitServe: JSON for the small one, a multipart file for the image, as it takes no plain bytes."""

# No `from __future__ import annotations`: LitServe reads the type of `request`; without one it hands over the JSON.

import os

import litserve
import numpy as np
from fastapi import Request
from served import BATCHING, MAX_BATCH, MAX_WAIT_MS, PORT, Array, Served


class Json(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.served = Served()

    def decode_request(self, request) -> Array:
        return self.served.from_lists(request["x"])[0]

    def batch(self, inputs: list[Array]) -> Array:
        return np.stack(inputs)

    def predict(self, x: Array) -> Array:
        return self.served.run(x if BATCHING else x[None])

    def unbatch(self, output: Array) -> list[Array]:
        return list(output)

    def encode_response(self, output: Array) -> dict[str, list[float]]:
        return {"y": (output if BATCHING else output[0]).tolist()}


class File(Json):
    def decode_request(self, request: Request) -> Array:
        return self.served.from_bytes(request["x"].file.read())[0]


if __name__ == "__main__":
    batching = {"max_batch_size": MAX_BATCH, "batch_timeout": MAX_WAIT_MS / 1e3} if BATCHING else {}
    api = (File if os.environ["DIALECT"] == "file" else Json)(api_path="/predict", **batching)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False, num_api_servers=1)
