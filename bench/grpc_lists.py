"""Time gRPC's typed contents of 1 kB, 600 kB and 50 MiB, kind by kind, beside protobuf's own lists read and filled one by one.

.venv/bin/python bench/grpc_lists.py

Prints microseconds of this process' CPU, the best of several runs: reading a ModelInferRequest into arrays, and writing its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from micro_codecs import Slot
from towline.core.inference import Response
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.serve.codecs.check import Limits
from towline.serve.protocols.grpc import openinference_codec as codec
from towline.serve.protocols.grpc.lifting import NOTHING
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.openinference_request import codec_for
from towline.serve.protocols.openinference_response import datatype_of

KIBIBYTES = (1, 600, 50 << 10)
REQUEST, ANSWER = MESSAGES["inference.ModelInferRequest"], MESSAGES["inference.ModelInferResponse"]
# Type, and from where to where its values go.
KINDS = {
    "fp32": ("float32", "fp32_contents", 0, 1),
    "fp64": ("float64", "fp64_contents", 0, 1),
    "bool": ("bool", "bool_contents", 0, 2),
    "uint8 pixels": ("uint8", "uint_contents", 0, 256),
    "int64 tokens": ("int64", "int64_contents", 0, 50_000),
    "int32 negative": ("int32", "int_contents", -1000, 0),
}


def best_us(call: Callable[[], object], seconds: float = 0.3) -> float:
    """Of at least three calls, and as many as take so long."""
    found, until = [], time.process_time() + seconds
    while len(found) < 3 or (time.process_time() < until and len(found) < 2000):
        began = time.process_time_ns()
        call()
        found.append((time.process_time_ns() - began) / 1000)
    return min(found)


def slot(dtype: str) -> Any:
    made: Any = Slot()
    signature = Signature((TensorSpec("x", dtype, ("N",)),), (TensorSpec("y", dtype, ("N",)),))
    facts, measured = Facts(0, {}, {}), Measured("bench", True, 0, 0, 256)
    made.manifest = Manifest(1, "none", "m", {"serving_default": signature}, True, Origin("onnx", ""), facts, measured)
    return made


def values_of(dtype: str, low: int, high: int, size: int) -> np.ndarray:
    """As many values as come to about `size` bytes on the wire."""
    rng = np.random.default_rng(0)
    if dtype.startswith("float"):
        return rng.random(size // np.dtype(dtype).itemsize).astype(dtype)
    sample = codec.packed(rng.integers(low, high, 1000).astype(dtype))
    return rng.integers(low, high, size * 1000 // len(sample)).astype(dtype)


def measure(dtype: str, place: str, low: int, high: int, size: int) -> tuple[int, list[float]]:
    """Bytes of the message; reading and writing, each one by one and as it is now."""
    array = values_of(dtype, low, high, size)
    served, limits = slot(dtype), Limits(max_batch=1 << 31, max_request_bytes=1 << 30)
    infer = codec_for(served, limits)
    response = Response({"y": array}, "m", 1)
    asked, _ = _asked(infer, limits, array)
    answer = codec.encode(response, asked, (), as_raw=False)
    message = ANSWER.FromString(answer)
    request = REQUEST(inputs=[{"name": "x", "datatype": datatype_of(array), "shape": array.shape}])
    request.inputs[0].contents.MergeFromString(message.outputs[0].contents.SerializeToString())
    raw = request.SerializeToString()
    del message, request

    def read_each() -> np.ndarray:
        return np.fromiter(getattr(REQUEST.FromString(raw).inputs[0].contents, place), array.dtype, array.size)

    def write_each() -> bytes:
        made = ANSWER(model_name="m", model_version="1")
        output = made.outputs.add(name="y", datatype=datatype_of(array), shape=array.shape)
        getattr(output.contents, place).extend(array.tolist())
        written: bytes = made.SerializeToString()
        return written

    def read_all() -> Any:
        return codec.decode(*codec.read(raw), infer, limits, None, 0.0)

    calls = (read_each, read_all, write_each, lambda: codec.encode(response, asked, (), as_raw=False))
    return len(raw), [best_us(call) for call in calls]


def _asked(infer: Any, limits: Limits, array: np.ndarray) -> Any:
    message = REQUEST(inputs=[{"name": "x", "datatype": datatype_of(array), "shape": [1]}], raw_input_contents=[array[:1].tobytes()])
    return codec.decode(message, NOTHING, infer, limits, None, 0.0)


def main() -> None:
    print(f"{'':16}{'kB':>8}{'read one by one':>18}{'read':>12}{'write one by one':>18}{'write':>12}  us of CPU")
    for name, kind in KINDS.items():
        for kibibytes in KIBIBYTES:
            size, (read_each, read, write_each, write) = measure(*kind, kibibytes << 10)
            print(f"{name:16}{size / 1000:8.0f}{read_each:18.1f}{read:12.1f}{write_each:18.1f}{write:12.1f}", flush=True)


if __name__ == "__main__":
    main()
