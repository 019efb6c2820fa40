"""The model behind every Python peer: one ONNX Runtime session with one thread, and what the bench's environment says."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import onnxruntime

MAX_BATCH = int(os.environ.get("MAX_BATCH", "1"))
MAX_WAIT_MS = int(os.environ.get("MAX_WAIT_MS", "2"))
BATCHING = MAX_BATCH > 1
PORT = int(os.environ.get("PORT", "0"))
GRPC_PORT = int(os.environ.get("GRPC_PORT", "0"))

Array = npt.NDArray[np.float32]


class Served:
    """`run` takes float32 [rows, *shape] and gives float32 [rows, classes]."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.shape: tuple[int, ...] = tuple(self._session.get_inputs()[0].shape[1:])

    def run(self, rows: Array) -> Array:
        return self._session.run(None, {"x": rows})[0]  # type: ignore[no-any-return]

    def from_lists(self, values: object) -> Array:
        """Rows from JSON; one row may come without its batch axis."""
        return np.asarray(values, np.float32).reshape(-1, *self.shape)

    def from_bytes(self, body: bytes) -> Array:
        return np.frombuffer(body, np.float32).reshape(-1, *self.shape)
