"""Plain prediction bodies for one signature: a batch or one item in, the same out, with labels where the version has them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from towline.core.errors import InvalidRequest
from towline.core.inference import Request, Response
from towline.core.manifest import TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import check, exact, json, nested
from towline.serve.codecs.check import InputCheck, Limits
from towline.serve.contract import Served


def codec_for(served: Served, limits: Limits) -> PlainCodec:
    codec: PlainCodec | None = served.codecs.get("predict")
    if codec is None:
        codec = served.codecs["predict"] = PlainCodec(served, limits)
    return codec


class PlainCodec:
    """`{"input": value}` for a model with one input, `{"input": {"a": value, "b": value}}` for one with several.

    A value as deep as the signature's rank is a batch; one level less is one item, answered without the batch dim.
    """

    def __init__(self, served: Served, limits: Limits) -> None:
        self._signature = served.signature()
        self._limits = limits
        self._specs = self._signature.inputs
        self._check = InputCheck(self._signature, limits)
        self._is_single = len(self._specs) == 1
        self._typed = [(decode, bool(dropped)) for dropped in (0, 1) if (decode := self._decoder(dropped))]

    def _decoder(self, dropped: int) -> Callable[[bytes], Any] | None:
        kind = json.nested_type(self._specs[0], dropped) if self._is_single else json.record_type(self._signature, dropped)
        return None if kind is None else json.decoder(msgspec.defstruct("Body", [("input", kind)], gc=False))

    def decode(self, body: bytes, deadline: float | None = None) -> tuple[Request, bool]:
        """The request, and whether it is one item rather than a batch. Raises InvalidRequest."""
        json.check_amount(body)
        for decode, is_item in self._typed:
            try:
                value = decode(body).input
                values = [value] if self._is_single else json.values_of(value)
                if not json.has_strings(body, 1 if self._is_single else 1 + len(values)):
                    break
                arrays = [json.array_of(value, spec) for value, spec in zip(values, self._specs, strict=True)]
            except json.NOT_PLAIN:
                continue
            return self._request(arrays, is_item, deadline), is_item
        return self._decode_exactly(exact.parse(body), deadline)

    def _decode_exactly(self, document: Any, deadline: float | None) -> tuple[Request, bool]:
        if not isinstance(document, dict) or "input" not in document:
            raise InvalidRequest('The body must be an object with the key "input".', code="MISSING_INPUT", field="input")
        values = [("input", document["input"])] if self._is_single else self._named(document["input"])
        arrays = [nested.to_array(value, spec, field, self._limits) for (field, value), spec in zip(values, self._specs, strict=True)]
        are_items = {_is_item(array, spec) for array, spec in zip(arrays, self._specs, strict=True)}
        if len(are_items) > 1:
            raise InvalidRequest("Either all inputs have a batch dim or none has.", code="SHAPE_MISMATCH", field="input")
        is_item = are_items.pop()
        return self._request(arrays, is_item, deadline), is_item

    def _named(self, value: Any) -> list[tuple[str, Any]]:
        if not isinstance(value, dict):
            names = check.list_names([spec.name for spec in self._specs])
            raise InvalidRequest(f"'input' must be an object with the inputs {names}.", code="WRONG_TYPE", field="input")
        check.check_names(list(value), self._signature, "input")
        return [(f"input.{clip(spec.name)}", value[spec.name]) for spec in self._specs]

    def _request(self, arrays: list[np.ndarray], is_item: bool, deadline: float | None) -> Request:
        if is_item:
            arrays = [array[np.newaxis] for array in arrays]
        fields = ["input"] if self._is_single else [f"input.{clip(spec.name)}" for spec in self._specs]
        rows = self._check.rows([array.shape for array in arrays], fields)
        return Request({spec.name: array for spec, array in zip(self._specs, arrays, strict=True)}, rows, deadline)


def _is_item(array: np.ndarray, spec: TensorSpec) -> bool:
    return spec.shape is not None and array.ndim == len(spec.shape) - 1


def encode(response: Response, labels: Sequence[str], *, is_item: bool) -> bytes:
    """`{"output": …}`; for scores [N, C] of C labels also the best label of each row."""
    outputs: dict[str, np.ndarray] = response.outputs
    shown = {name: _without_batch(array) if is_item else array for name, array in outputs.items()}
    written = {name: json.jsonable(array, json.plain_text) for name, array in shown.items()}
    document: dict[str, Any] = {"output": next(iter(written.values())) if len(written) == 1 else written}
    if labels and len(outputs) == 1:
        (scores,) = outputs.values()
        document.update(_best(scores, labels, is_item))
    if any(json.is_non_finite(array) for array in shown.values()):
        document["warning"] = "NaN and infinity are written as null: JSON has no word for them."
    return json.dumps(document)


def _best(scores: np.ndarray, labels: Sequence[str], is_item: bool) -> dict[str, Any]:
    if scores.ndim != 2 or scores.shape[1] != len(labels) or scores.dtype.kind not in "fiu":
        return {}
    indices = scores.argmax(axis=1).tolist()
    found = [{"label": labels[index], "score": scores[row, index], "index": index} for row, index in enumerate(indices)]
    if is_item and len(found) == 1:
        return found[0]
    return {"predictions": found}


def _without_batch(array: np.ndarray) -> np.ndarray:
    return np.asarray(array[0]) if array.ndim and len(array) == 1 else array
