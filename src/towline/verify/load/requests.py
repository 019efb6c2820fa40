"""Write the requests a load generator sends, as each protocol wants them. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.frames import pack_strings
from towline.core.manifest import Signature, TensorSpec
from towline.verify.inputs import batch_symbol

HEADER_LENGTH = "Inference-Header-Content-Length"
JSON_TYPE, BINARY_TYPE = "application/json", "application/octet-stream"


def http_request(path: str, authority: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The whole message of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {authority}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def v2_json(tensors: Mapping[str, np.ndarray]) -> bytes:
    described = [{**_described(name, array), "data": _flat(array)} for name, array in tensors.items()]
    return _json({"inputs": described})


def v2_binary(tensors: Mapping[str, np.ndarray]) -> tuple[bytes, int]:
    """The body, and how many of its bytes are JSON. Outputs are asked for in binary too."""
    described, chunks = [], []
    for name, array in tensors.items():
        raw = raw_bytes(array)
        described.append({**_described(name, array), "parameters": {"binary_data_size": len(raw)}})
        chunks.append(raw)
    head = _json({"inputs": described, "parameters": {"binary_data_output": True}})
    return b"".join([head, *chunks]), len(head)


def tf_serving(tensors: Mapping[str, np.ndarray], *, is_batch: bool) -> bytes:
    """Row form, `instances`, when every input leads with the batch, as most clients send it; else the column form, `inputs`."""
    values = {name: _nested(array) for name, array in tensors.items()}
    if not is_batch:
        return _json({"inputs": values if len(values) > 1 else next(iter(values.values()))})
    if len(values) == 1:
        return _json({"instances": next(iter(values.values()))})
    return _json({"instances": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]})


def simple(tensors: Mapping[str, np.ndarray]) -> bytes:
    """What `/predict` takes."""
    values = {name: _nested(array) for name, array in tensors.items()}
    return _json({"input": next(iter(values.values())) if len(values) == 1 else values})


def raw_bytes(array: np.ndarray) -> bytes:
    """Little-endian and row-major; each string with its length before it."""
    dtype = dtypes.of_array(array)
    assert dtype is not None, "arrays come from a signature, which knows no other types"
    return array.astype(dtype.numpy, copy=False).tobytes() if dtype.size else pack_strings(array)


def signature_of(tensors: list[tuple[str, str, tuple[int, ...]]]) -> Signature:
    """A signature from (name, our dtype, shape) as a server tells them, where -1 is any size.

    When the first dim of every input is any size, it is taken for the batch; other such dims are each a size of their own.
    """
    leads = all(shape and shape[0] == -1 for _, _, shape in tensors)

    def dims(name: str, shape: tuple[int, ...]) -> tuple[int | str, ...]:
        return tuple(("batch" if leads and axis == 0 else f"{name}[{axis}]") if size == -1 else size for axis, size in enumerate(shape))

    return Signature(tuple(TensorSpec(name, dtype, dims(name, shape)) for name, dtype, shape in tensors), ())


def leads_with_batch(signature: Signature) -> bool:
    return bool(batch_symbol(signature))


def v2_name(array: np.ndarray) -> str:
    dtype = dtypes.of_array(array)
    assert dtype is not None, "arrays come from a signature, which knows no other types"
    return dtype.v2


def _described(name: str, array: np.ndarray) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": v2_name(array)}


def _flat(array: np.ndarray) -> list[Any]:
    flat: list[Any] = _nested(array.reshape(-1))
    return flat


def _nested(array: np.ndarray) -> Any:
    """Lists of what JSON has. A float is written with as many digits as tell it apart in its own type."""
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        shortest = np.array([float(str(value)) for value in array.reshape(-1)], dtype=object)
        return shortest.reshape(array.shape).tolist()
    if array.dtype == object:
        texts = np.empty(array.shape, dtype=object)
        for index, value in np.ndenumerate(array):
            texts[index] = _text(value)
        return texts.tolist()
    return array.tolist()


def _text(value: object) -> Any:
    raw = value if isinstance(value, bytes) else str(value).encode()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw).decode()}


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
