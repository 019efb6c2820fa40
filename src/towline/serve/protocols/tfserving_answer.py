"""TF Serving's answers to predict: `predictions` or `outputs`, as the body came, and its TensorInfo. Pure."""

from __future__ import annotations

import base64
import enum
from collections.abc import Callable
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import InvalidRequest
from towline.core.inference import Response
from towline.core.manifest import TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import json


class Form(enum.Enum):
    """How a body gives its values, and so how it is answered."""

    ROWS = "instances"
    COLUMNS = "inputs"
    # A number a row for an input of one number a row, `[1.0, 2.0]` for `[[1.0], [2.0]]`: TF Serving holds nobody to a signature's rank, and
    # its own first example sends this.
    NUMBERS = "numbers"


# Looked up once: an enumeration's class looks for a member in Python's slowest way.
ROWS, COLUMNS, NUMBERS = Form.ROWS, Form.COLUMNS, Form.NUMBERS


def encode(response: Response, form: Form) -> bytes:
    """The body of the answer to what came in that form. Raises InvalidRequest when the outputs cannot be split into rows."""
    merged, start = response.merged, response.start
    if form is ROWS and merged is not None and (rows := merged.made or json.rows_of(merged)):
        if response.stop - start == 1:
            return b'{"predictions":[%b%b%b]}' % (rows.opening, rows.texts[start], rows.closing)
        return b'{"predictions":[%b]}' % rows.between(start, response.stop)
    outputs = response.own if merged is None else response.outputs
    is_row = form is not COLUMNS
    if form is NUMBERS:
        outputs = {name: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for name, array in outputs.items()}
    if len(outputs) == 1:
        (array,) = outputs.values()
        if array.ndim:
            try:
                body = (b'{"predictions":%b}' if is_row else b'{"outputs":%b}') % json.dumps(array)
            except TypeError:
                # Strings, and arrays that are laid out otherwise than orjson reads them.
                body = b"null"
            if b"null" not in body:
                return body
    if is_row:
        _check_rows(outputs)
    body = _write(outputs, is_row, _value)
    # orjson writes null for NaN and infinity; numbers are never null otherwise.
    if b"null" in body and any(json.is_non_finite(array) for array in outputs.values()):
        body = _write(outputs, is_row, _value_with_tokens)
    return body


def _write(outputs: dict[str, np.ndarray], is_row: bool, value: Callable[[str, np.ndarray], Any]) -> bytes:
    key = "predictions" if is_row else "outputs"
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return json.dumps({key: value(name, array)})
    if not is_row:
        return json.dumps({key: {name: value(name, array) for name, array in outputs.items()}})
    rows = len(next(iter(outputs.values())))
    return json.dumps({key: [{name: value(name, array[index, ...]) for name, array in outputs.items()} for index in range(rows)]})


def _check_rows(outputs: dict[str, np.ndarray]) -> None:
    rows = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise InvalidRequest(f"Tensor name: {clip(name)} has no shape information", code="NO_BATCH_DIM", hint="Use 'inputs'.")
        if rows is not None and len(array) != rows:
            raise InvalidRequest(
                f"Tensor name: {clip(name)} has inconsistent batch size: {len(array)} expecting: {rows}",
                code="NO_BATCH_DIM",
                hint="Use 'inputs'.",
            )
        rows = len(array)


def _value(name: str, array: np.ndarray) -> Any:
    return json.jsonable(array, _base64 if name.endswith("_bytes") else _text)


def _value_with_tokens(name: str, array: np.ndarray) -> Any:
    return json.with_tokens(array) if json.is_non_finite(array) else _value(name, array)


def _text(element: Any) -> Any:
    try:
        return json.plain_text(element)
    except InvalidRequest:
        # Better than a body that is no JSON, which is what TF Serving would send.
        return _base64(element)


def _base64(element: Any) -> dict[str, str]:
    raw = element.encode() if isinstance(element, str) else bytes(element)
    return {"b64": base64.b64encode(raw).decode()}


def tensor_info(spec: TensorSpec) -> dict[str, Any]:
    """A TensorInfo in proto3 JSON, as TF Serving prints it."""
    dims = [{"size": str(dim if isinstance(dim, int) else -1), "name": ""} for dim in spec.shape or ()]
    return {
        "dtype": dtypes.BY_NAME[spec.dtype].tf,
        "tensor_shape": {"dim": dims, "unknown_rank": spec.shape is None},
        "name": spec.name,
    }
