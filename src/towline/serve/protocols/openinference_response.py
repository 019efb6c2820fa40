"""Open Inference Protocol: a Response -> an infer answer's bytes, JSON tensors and binary ones as asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import TowlineError
from towline.core.inference import Response
from towline.serve.codecs import binary, compression, json
from towline.serve.contract import HttpResponse
from towline.serve.protocols.openinference_request import Asked, Wanted

# Tensors beyond this are sent from where they are; joining smaller ones saves a call.
_JOINED_BYTES = 64 << 10
_WARNING = "NaN and infinity are written as null: JSON has no word for them. Ask for binary_data_output to get them."


def encode(response: Response, asked: Asked, labels: Sequence[str], *, has_batch: bool, accept_encoding: bytes | None) -> HttpResponse:
    """The whole answer. Arrays are read here and not kept. Raises InvalidRequest for text that JSON cannot carry."""
    outputs: list[dict[str, Any]] = []
    tensors: list[bytes] = []
    is_non_finite = False
    for wanted in asked.outputs:
        array = array_of(response, wanted, labels, has_batch=has_batch)
        output: dict[str, Any] = {"name": wanted.name, "datatype": datatype_of(array), "shape": list(array.shape)}
        if wanted.binary:
            tensors.append(binary.encode_tensor(array))
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            output["data"] = json.jsonable(array.reshape(-1), json.plain_text)
            is_non_finite = is_non_finite or json.is_non_finite(array)
        outputs.append(output)
    document: dict[str, Any] = {"model_name": response.name, "model_version": str(response.number)}
    if asked.request.id:
        document["id"] = asked.request.id
    if is_non_finite:
        document["parameters"] = {"warning": _WARNING}
    document["outputs"] = outputs
    head = json.dumps(document)
    return _response(head, tensors, accept_encoding)


def _response(head: bytes, tensors: list[bytes], accept_encoding: bytes | None) -> HttpResponse:
    headers: list[tuple[bytes, bytes]] = []
    content_type, body = b"application/json", head
    if tensors:
        content_type = b"application/octet-stream"
        headers.append((b"inference-header-content-length", str(len(head)).encode()))
        if sum(map(len, tensors)) >= _JOINED_BYTES and not compression.choose(accept_encoding):
            return HttpResponse(200, head, content_type, tuple(headers), tail=tuple(tensors))
        body = b"".join((head, *tensors))
    coding = compression.choose(accept_encoding)
    if coding and compression.is_worth_compressing(len(body)):
        # The header above still counts the bytes before compression.
        body = compression.compress(body, coding)
        headers.append((b"content-encoding", coding))
    return HttpResponse(200, body, content_type, tuple(headers))


def array_of(response: Response, wanted: Wanted, labels: Sequence[str], *, has_batch: bool) -> np.ndarray:
    """An output as it was asked for: its values, or its best classes."""
    array: np.ndarray = response.outputs[wanted.name]
    return best_classes(array, wanted.classes, labels, has_batch=has_batch) if wanted.classes else array


def best_classes(array: np.ndarray, count: int, labels: Sequence[str], *, has_batch: bool) -> np.ndarray:
    """The `count` highest values of each row as `value:index` or `value:index:label`: Triton's classification extension.

    [N, …] gives strings [N, min(count, C)] where C is the size of a row; without a batch dim the whole array is one row.
    """
    batched = has_batch and array.ndim > 0
    rows = array.reshape(array.shape[0], -1) if batched else array.reshape(1, -1)
    count = min(count, rows.shape[1])
    # Stable, so that equal values keep their order; lowest index first.
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count] if array.dtype.kind != "O" else None
    texts = np.empty((rows.shape[0], count), dtype=object)
    for row, indices in enumerate(best if best is not None else np.zeros((rows.shape[0], 0), int)):
        for place, index in enumerate(indices):
            label = f":{labels[index]}" if index < len(labels) else ""
            texts[row, place] = f"{float(rows[row, index]):f}:{index}{label}".encode()
    return texts if batched else texts.reshape(-1)


def datatype_of(array: np.ndarray) -> str:
    """The v2 protocol's word for an array's type."""
    dtype = dtypes.of_array(array)
    if dtype is None:
        raise TowlineError("The model answered with a type that this protocol has no name for.", code="UNKNOWN_DATATYPE")
    return dtype.v2
