"""TF Serving's `:classify` and `:regress` bodies: JSON examples -> features, and their answers, `results`. Pure."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from towline.core.errors import InvalidRequest
from towline.core.inference import Request, Response
from towline.core.manifest import DEFAULT_SIGNATURE
from towline.core.refs import clip
from towline.serve.codecs import exact, json
from towline.serve.codecs.check import Limits
from towline.serve.contract import Served
from towline.serve.protocols import tfserving_body
from towline.serve.protocols.tfserving_examples import BYTES, CLASSIFY_METHOD, FLOAT, INT64, Example, Feature, Task, codec_for, values_of
from towline.serve.protocols.tfserving_examples import classes_of as classes_of_rows

_KINDS: dict[type, str] = {bool: INT64, int: INT64, float: FLOAT, exact.Token: FLOAT, str: BYTES, bytes: BYTES}
_INT64_END = 1 << 63


def decode(body: bytes, served: Served, limits: Limits, method: str, deadline: float | None) -> tuple[Request, Task, int]:
    """The request, how to answer it, and of how many examples it is. Raises InvalidRequest."""
    json.check_amount(body)
    document = exact.parse(body, allow_non_finite=True, stop_when_done=True)
    if not isinstance(document, dict):
        raise InvalidRequest("The request must be a JSON object: Is not object", code="WRONG_TYPE")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidRequest("'signature_name' key must be a string value.", code="WRONG_TYPE", field="signature_name")
    if name not in ("", DEFAULT_SIGNATURE, *served.manifest.signatures):
        raise tfserving_body.unknown_signature(name)
    codec = codec_for(served, limits, name)
    task = codec.task(method)
    found = document.get("examples")
    if not isinstance(found, list):
        problem = "must be a list" if "examples" in document else "key is missing"
        raise InvalidRequest(f"'examples' {problem}: it takes a list of objects of features.", code="MISSING_INPUT", field="examples")
    codec.check_amount(len(found))
    examples = [_example(item, f"examples[{index}]") for index, item in enumerate(found)]
    context = _example(document.get("context", {}), "context")
    return codec.decode(examples, context, task, deadline), task, len(examples)


def _example(item: Any, field: str) -> Example:
    if not isinstance(item, dict):
        raise InvalidRequest("An example must be an object of features.", code="WRONG_TYPE", field=field)
    return {name: _feature(value, f"{field}.{clip(name)}") for name, value in item.items()}


def _feature(value: Any, field: str) -> Feature:
    values = [_value(one, field) for one in (value if isinstance(value, list) else [value])]
    kinds = {_KINDS[type(one)] for one in values}
    if len(kinds) > 1:
        several = " and ".join(sorted(kinds))
        raise InvalidRequest(f"The values of a feature must be of one type, got {several}.", code="WRONG_TYPE", field=field)
    return Feature(kinds.pop() if kinds else "", values)


def _value(one: Any, field: str) -> Any:
    if isinstance(one, dict) and len(one) == 1 and isinstance(one.get("b64"), str):
        try:
            return base64.b64decode(one["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest("The value of 'b64' is no base64.", code="BAD_BASE64", field=field) from None
    if isinstance(one, str):
        return one.encode()
    if type(one) not in _KINDS:
        raise InvalidRequest("A feature takes numbers, true, false, strings, or a flat list of them.", code="WRONG_TYPE", field=field)
    if type(one) is int and not -_INT64_END <= one < _INT64_END:
        raise InvalidRequest("A whole number must fit into 64 bits.", code="OUT_OF_RANGE", field=field)
    if type(one) is float and math.isinf(one):
        raise InvalidRequest("A number must fit into 64 bits; write Infinity where it is meant.", code="OUT_OF_RANGE", field=field)
    return one


def encode(response: Response, task: Task, labels: Sequence[str], rows: int) -> bytes:
    """`{"results": […]}`: pairs of label and score for each example, or its value."""
    if task.method == CLASSIFY_METHOD:
        labels_of_rows, scores = classes_of_rows(response, task, labels, rows)
        pairs = [[[label, _number(score)] for label, score in zip(*row, strict=True)] for row in zip(labels_of_rows, scores, strict=True)]
        return json.dumps({"results": pairs})
    values = values_of(response, task, rows)
    return json.dumps({"results": json.with_tokens(values) if json.is_non_finite(values) else json.jsonable(values, json.plain_text)})


def _number(score: np.float32) -> Any:
    return score if np.isfinite(score) else json.with_tokens(np.asarray(score))
