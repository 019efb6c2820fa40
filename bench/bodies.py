"""What a request looks like in each dialect, and whether an answer holds the right numbers. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models import Model

TOLERANCE = 1e-4
BOUNDARY = "towline-bench"
JSON, BYTES = "application/json", "application/octet-stream"


@dataclass(frozen=True)
class Body:
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)


def instances(model: Model) -> Body:
    """TensorFlow Serving's rows."""
    return _json({"instances": [_numbers(model)]})


def row(model: Model) -> Body:
    return _json({"x": _numbers(model)})


def rows(model: Model) -> Body:
    """A batch of one."""
    return _json({"x": [_numbers(model)]})


def open_inference(model: Model) -> Body:
    return _json({"inputs": [{**_tensor(model), "data": _flat(model)}]})


def open_inference_binary(model: Model) -> Body:
    """JSON and the tensor's bytes after it; the answer shall be binary too."""
    head = json.dumps(
        {
            "inputs": [{**_tensor(model), "parameters": {"binary_data_size": model.row.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return Body(head + model.row.tobytes(), {"Content-Type": BYTES, "Inference-Header-Content-Length": str(len(head))})


def raw(model: Model) -> Body:
    """Nothing but the little-endian float32 of one row."""
    return Body(model.row.tobytes(), {"Content-Type": BYTES})


def multipart(model: Model) -> Body:
    """The same bytes as a file named "x": for servers that take no plain bytes."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="x"; filename="x"\r\nContent-Type: {BYTES}\r\n\r\n'
    content = head.encode() + model.row.tobytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Body(content, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


Dialect = Callable[[Model], Body]


def wrongness(answer: bytes, right: npt.NDArray[np.float32]) -> str:
    """What is wrong with an answer; empty when the right numbers stand in it, in JSON or as little-endian float32."""
    found = _numbers_in(answer)
    if found is None:
        return "" if _holds_bytes(answer, right) else f"it answered {len(answer)} bytes without the right tensor"
    for start in range(len(found) - len(right) + 1):
        if np.allclose(found[start : start + len(right)], right, atol=TOLERANCE):
            return ""
    return f"it answered {answer[:200].decode(errors='replace')}, expected {right[:10].tolist()}"


def _holds_bytes(answer: bytes, right: npt.NDArray[np.float32]) -> bool:
    return any(
        np.allclose(np.frombuffer(answer, np.float32, len(right), offset), right, atol=TOLERANCE)
        for offset in range(len(answer) - right.nbytes, -1, -1)
    )


def _numbers_in(answer: bytes) -> list[float] | None:
    """Every number of a JSON document, in order; None when it is none."""
    try:
        return list(_walk(json.loads(answer)))
    except ValueError:
        return None


def _walk(value: object) -> Iterator[float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _walk(part)


def _json(document: object) -> Body:
    return Body(json.dumps(document).encode(), {"Content-Type": JSON})


def _tensor(model: Model) -> dict[str, object]:
    return {"name": "x", "shape": [1, *model.shape], "datatype": "FP32"}


def _numbers(model: Model) -> list[object]:
    return np.round(model.row.astype(float), 6).tolist()


def _flat(model: Model) -> list[float]:
    return np.round(model.row.astype(float), 6).ravel().tolist()
