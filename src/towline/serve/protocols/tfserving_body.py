"""TF Serving's predict bodies for one signature: `instances` or `inputs` in. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from towline.core import dtypes
from towline.core.errors import InvalidRequest
from towline.core.inference import Request
from towline.core.manifest import DEFAULT_SIGNATURE, Signature
from towline.core.refs import clip
from towline.serve.codecs import exact, json, nested, numbers
from towline.serve.codecs.check import InputCheck, Limits, batch_too_large
from towline.serve.contract import Served
from towline.serve.protocols.tfserving_answer import COLUMNS, NUMBERS, ROWS, Form

_ROW, _COLUMN = ("instances",), ("inputs",)
# Where the codec of the default signature is kept.
DEFAULT = ("tfserving", "")


def codec_for(served: Served, limits: Limits, name: str = "") -> PredictCodec:
    """The codec of a signature, built once per slot. Raises InvalidRequest in TF Serving's words for a name there is not."""
    key = ("tfserving", name)
    codec: PredictCodec | None = served.codecs.get(key)
    if codec is None:
        if name and name not in served.manifest.signatures:
            raise unknown_signature(name)
        codec = PredictCodec(served, limits, name)
        served.codecs[key] = codec
    return codec


def unknown_signature(name: str) -> InvalidRequest:
    words = f'Serving signature name: "{clip(name)}" not found in signature def'
    return InvalidRequest(words, code="UNKNOWN_SIGNATURE", field="signature_name")


class PredictCodec:
    """Decodes bodies quickly when they are in the plain form, exactly when they are not."""

    def __init__(self, served: Served, limits: Limits, name: str) -> None:
        self.signature: Signature = served.signature(name)
        self._served, self._limits, self._name = served, limits, name
        self._specs = self.signature.inputs
        self._names = tuple(spec.name for spec in self._specs)
        self._check = InputCheck(self.signature, limits)
        # Signatures found under the default name answer to that name too.
        self._answers_to = {name, "" if name else DEFAULT_SIGNATURE} if served.signature("") is self.signature else {name}
        # What a request says of its signature; nothing of the default one.
        self._signature_name = "" if served.signature("") is self.signature else name
        self._plain = _decoder(json.nested_type(self._specs[0]), None) if len(self._specs) == 1 else None
        row, column = json.record_type(self.signature, 1), json.record_type(self.signature)
        self._named = _decoder(None if row is None else list[row], column) if row and column else None  # type: ignore[valid-type]
        self._max_rows = limits.max_batch if self._check.has_batch else None

        # One numeric input of fixed trailing dims: what nearly every request is, decoded without a detour.
        self._tail = self._check.plain_tail if self._plain is not None and json.is_numeric(self._specs[0]) else None
        self._dtype = dtypes.BY_NAME[self._specs[0].dtype].numpy
        # And of those most have one row, which is packed.
        self._width = int(self._tail[0]) if self._tail is not None and len(self._tail) == 1 else 0
        self._pack = json.packer(self._specs[0], self._width)
        reads_floats = self._tail is not None and numbers.FloatReader.takes(self._specs[0])
        self._floats = numbers.FloatReader(self._specs[0], self._tail or (), "instances") if reads_floats else None

    def decode(self, body: bytes, deadline: float | None = None) -> tuple[Request, Form]:
        """The request, and how it came. Raises InvalidRequest."""
        if len(body) > json.COUNTED_BYTES:
            json.check_amount(body)
        # Two quotes: the only string is the one key.
        plain = self._plain
        if self._tail is not None and plain is not None and body.count(b'"') == 2:
            if self._floats is not None and len(body) >= numbers.MIN_BYTES and (found := self._floats.read(body)) is not None:
                return self._request([found], True, deadline), ROWS
            if len(body) > json.LARGE_BYTES:
                # It is read below, and once.
                return self._decode_any(body, deadline)
            try:
                rows = plain(body).instances
                if self._pack is not None and len(rows) == 1 and len(rows[0]) == self._width:
                    # numpy takes half as long again to look what is in the lists.
                    array = np.ndarray((1, self._width), self._dtype, bytearray(self._pack(*rows[0])))
                    return Request({self._names[0]: array}, 1, deadline, signature=self._signature_name), ROWS
                array = np.array(rows, self._dtype)
            except json.NOT_PLAIN:
                return self._decode_any(body, deadline)
            shape = array.shape
            if shape[1:] == self._tail and 0 < shape[0] <= self._limits.max_batch:
                return Request({self._names[0]: array}, shape[0], deadline, signature=self._signature_name), ROWS
        return self._decode_any(body, deadline)

    def _decode_any(self, body: bytes, deadline: float | None) -> tuple[Request, Form]:
        for decode, values in ((self._plain, self._plain_values), (self._named, self._named_values)):
            if decode is None:
                continue
            try:
                parsed = decode(body)
            except msgspec.ValidationError:
                continue
            except json.NOT_PLAIN:
                # No JSON, for whomever: a large body must not hold up the others once more.
                break
            is_row = parsed.instances is not UNSET
            name = parsed.signature_name
            if is_row == (parsed.inputs is not UNSET):
                break
            if name is not UNSET and name not in self._answers_to:
                break
            value = parsed.instances if is_row else parsed.inputs
            if is_row and not value:
                break
            if self._max_rows is not None and is_row and len(value) > self._max_rows:
                raise batch_too_large(len(value), self._max_rows, "instances")
            try:
                arrays = values(body, value, is_row, 1 if name is UNSET else 3)
            except json.NOT_PLAIN:
                break
            if arrays is not None:
                return self._request(arrays, is_row, deadline), ROWS if is_row else COLUMNS
            break
        return self._decode_exactly(exact.parse(body, allow_non_finite=True, stop_when_done=True), deadline)

    def _plain_values(self, body: bytes, value: Any, is_row: bool, strings: int) -> list[np.ndarray] | None:
        return [json.array_of(value, self._specs[0])] if json.has_strings(body, strings) else None

    def _named_values(self, body: bytes, value: Any, is_row: bool, strings: int) -> list[np.ndarray] | None:
        strings += len(self._specs) * (len(value) if is_row else 1)
        if not json.has_strings(body, strings):
            return None
        columns = zip(*map(json.values_of, value), strict=True) if is_row else json.values_of(value)
        return [json.array_of(column, spec) for spec, column in zip(self._specs, columns, strict=True)]

    def _request(self, arrays: list[np.ndarray], is_row: bool, deadline: float | None) -> Request:
        if len(arrays) == 1:
            array = arrays[0]
            rows = self._check.rows((array.shape,), _ROW if is_row else _COLUMN)
            return Request({self._names[0]: array}, rows, deadline, signature=self._signature_name)
        fields = ["instances" if is_row else f"inputs.{clip(name)}" for name in self._names]
        rows = self._check.rows([array.shape for array in arrays], fields)
        return Request(dict(zip(self._names, arrays, strict=True)), rows, deadline, signature=self._signature_name)

    def _decode_exactly(self, document: Any, deadline: float | None) -> tuple[Request, Form]:
        if not isinstance(document, dict):
            raise InvalidRequest("The request must be a JSON object: Is not object", code="WRONG_TYPE")
        name = document.get("signature_name", self._name)
        if not isinstance(name, str):
            raise InvalidRequest(
                "not formatted correctly. 'signature_name' key must be a string value.", code="WRONG_TYPE", field="signature_name"
            )
        if name not in self._answers_to:
            return codec_for(self._served, self._limits, name)._decode_exactly(document, deadline)
        is_row = "instances" in document
        if is_row == ("inputs" in document):
            raise _not_one_format(is_row)
        values = self._row_values(document["instances"]) if is_row else self._column_values(document["inputs"])
        arrays = [nested.to_array(value, spec, field, self._limits) for (field, value), spec in zip(values, self._specs, strict=True)]
        if is_row and self._tail == (1,) and arrays[0].ndim == 1:
            return self._request([arrays[0].reshape(-1, 1)], True, deadline), NUMBERS
        return self._request(arrays, is_row, deadline), ROWS if is_row else COLUMNS

    def _row_values(self, rows: Any) -> list[tuple[str, Any]]:
        if not isinstance(rows, list):
            raise InvalidRequest("Expecting 'instances' to be an list/array", code="WRONG_TYPE", field="instances")
        if not rows:
            raise InvalidRequest("No values in 'instances' array", code="EMPTY_BATCH", field="instances")
        if self._max_rows is not None and len(rows) > self._max_rows:
            raise batch_too_large(len(rows), self._max_rows, "instances")
        are_objects = _is_named(rows[0])
        if not are_objects and len(self._specs) > 1:
            raise InvalidRequest(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map",
                code="MISSING_INPUT",
                field="instances",
            )
        for index, row in enumerate(rows):
            if _is_named(row) != are_objects:
                expected = "object but got list" if are_objects else "value/list but got object"
                raise InvalidRequest(f"Expecting {expected} at item {index} of input list", code="WRONG_TYPE", field=f"instances[{index}]")
            if are_objects and row.keys() != set(self._names):
                raise self._wrong_keys(row, index)
        if not are_objects:
            return [("instances", rows)]
        return [("instances", [row[name] for row in rows]) for name in self._names]

    def _wrong_keys(self, row: dict[str, Any], index: int) -> InvalidRequest:
        extra = [clip(name) for name in row if name not in self._names][:8]
        missing = [clip(name) for name in self._names if name not in row][:8]
        return InvalidRequest(
            f"Failed to process element: {index} of 'instances' list. JSON object keys must be equal to: {clip(','.join(self._names))}."
            f" Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}.",
            code="MISSING_INPUT" if missing else "UNKNOWN_INPUT",
            field=f"instances[{index}]",
        )

    def _column_values(self, inputs: Any) -> list[tuple[str, Any]]:
        if not _is_named(inputs):
            if len(self._specs) > 1:
                raise InvalidRequest(
                    "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map",
                    code="MISSING_INPUT",
                    field="inputs",
                )
            return [("inputs", inputs)]
        for name in self._names:
            if name not in inputs:
                raise InvalidRequest(f"Missing named input: {clip(name)} in 'inputs' object.", code="MISSING_INPUT", field="inputs")
        return [(f"inputs.{clip(name)}", inputs[name]) for name in self._names]


def _decoder(instances: Any, inputs: Any) -> Callable[[bytes], Any] | None:
    """A decoder of a whole body whose `instances` and `inputs` have these types; both the first when the second is None."""
    if instances is None:
        return None
    fields = [("signature_name", str | UnsetType, UNSET), ("instances", instances | UnsetType, UNSET)]
    fields.append(("inputs", (inputs or instances) | UnsetType, UNSET))
    return json.decoder(msgspec.defstruct("Body", fields, gc=False))


def _is_named(value: Any) -> bool:
    """An object of inputs, not a base64 value."""
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get("b64"), str))


def _not_one_format(both: bool) -> InvalidRequest:
    if both:
        return InvalidRequest(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
            code="AMBIGUOUS_FORMAT",
            field="instances",
        )
    return InvalidRequest("Missing 'inputs' or 'instances' key", code="MISSING_INPUT", field="instances")
