"""A tritonclient that sends a picture, then a tensor, over gRPC: picture_grpc_session.py HOST:PORT FILE; prints what it got as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from tritonclient import grpc as triton


def main(address: str, file: str) -> None:
    with triton.InferenceServerClient(address) as client:
        encoded = triton.InferInput("image", [1], "BYTES")
        encoded.set_data_from_numpy(np.array([Path(file).read_bytes()], dtype=object))
        tensor = triton.InferInput("x", [1, 3, 8, 8], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 3, 8, 8), np.float32))
        label = client.infer("colours", [encoded]).as_numpy("label")[0, 0].decode()
        logits = client.infer("colours", [tensor]).as_numpy("logits").tolist()
    print(json.dumps({"label": label, "logits": logits}))


if __name__ == "__main__":
    main(*sys.argv[1:])
