"""Time the JSON codecs on the common request: one float32 input [1, 10]. Prints microseconds per call, the best of several runs.

.venv/bin/python bench/micro_codecs.py
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

from towline.core.inference import Response
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.serve.codecs.check import Limits
from towline.serve.protocols import (
    openinference_request,
    openinference_response,
    simple_answer,
    simple_body,
    tfserving_answer,
    tfserving_body,
)


class Slot:
    """As much of a slot as a codec looks at."""

    labels: tuple[str, ...] = ()

    def __init__(self) -> None:
        signature = Signature((TensorSpec("x", "float32", ("N", 10)),), (TensorSpec("y", "float32", ("N", 10)),))
        facts, measured = Facts(0, {}, {}), Measured("bench", True, 0, 0, 256)
        self.manifest = Manifest(1, "none", "m", {"serving_default": signature}, True, Origin("onnx", ""), facts, measured)
        self.codecs: dict[object, object] = {}

    def signature(self, name: str = "") -> Signature:
        return self.manifest.signature


def best_us(call: Callable[[], object], number: int) -> float:
    return min(timeit.repeat(call, number=number, repeat=7)) / number * 1e6


def cases(rows: int) -> dict[str, Callable[[], object]]:
    slot: Any = Slot()
    limits = Limits(max_batch=100_000)
    x = np.random.default_rng(0).random((rows, 10)).astype(np.float32)
    values = [[round(value, 4) for value in row] for row in x.tolist()]
    v1, plain = json.dumps({"instances": values}).encode(), json.dumps({"input": values}).encode()
    item = {"name": "x", "shape": [rows, 10], "datatype": "FP32"}
    v2 = json.dumps({"inputs": [item | {"data": np.ravel(values).tolist()}]}).encode()
    head = json.dumps({"inputs": [item | {"parameters": {"binary_data_size": x.nbytes}}]}).encode()
    length, mixed = str(len(head)).encode(), head + x.tobytes()
    response = Response({"y": x}, "m", 1)
    infer = openinference_request.codec_for(slot, limits)
    asked = infer.decode(v2, None, None, 0.0)
    return {
        "v1 decode": lambda: tfserving_body.codec_for(slot, limits).decode(v1),
        "v1 encode": lambda: tfserving_answer.encode(response, tfserving_answer.Form.ROWS),
        "predict decode": lambda: simple_body.codec_for(slot, limits).decode(plain),
        "predict encode": lambda: simple_answer.encode(response, (), is_item=False),
        "v2 JSON decode": lambda: infer.decode(v2, None, None, 0.0),
        "v2 JSON encode": lambda: openinference_response.encode(response, asked, (), has_batch=True, accept_encoding=None),
        "v2 binary decode": lambda: infer.decode(mixed, length, None, 0.0),
    }


def main() -> None:
    for rows, number in ((1, 20_000), (1000, 50)):
        for name, call in cases(rows).items():
            print(f"{name:18} {rows:5} rows  {best_us(call, number):9.2f} us")


if __name__ == "__main__":
    main()
