"""Plain prediction's JSON bodies for one signature: a batch or one item, by the names that hand-written services use. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from towline.core.errors import InvalidRequest
from towline.core.inference import Request
from towline.core.manifest import TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import exact, json, media, nested
from towline.serve.codecs.check import InputCheck, Limits
from towline.serve.contract import Served
from towline.serve.protocols import simple_values
from towline.serve.protocols.simple_values import INPUT, KEYS

# The key a body begins with, when it is one of ours.
_FIRST_KEY = re.compile(rb'\s*\{\s*"(%s)"\s*:' % "|".join(KEYS).encode())
_Typed = list[tuple[Callable[[bytes], Any], bool]]


def codec_for(served: Served, limits: Limits) -> PlainCodec:
    codec: PlainCodec | None = served.codecs.get("predict")
    if codec is None:
        codec = served.codecs["predict"] = PlainCodec(served, limits)
    return codec


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A decoded body. `is_item`: one item rather than a batch. `is_plain`: it is answered with `{"output": …}`."""

    request: Request
    is_item: bool
    is_plain: bool = True


class PlainCodec:
    """`{"input": value}` for a model with one input, `{"input": {"a": value, "b": value}}` for one with several.

    A value as deep as the signature's rank is a batch; one level less is one item, answered without the batch dim.
    """

    def __init__(self, served: Served, limits: Limits) -> None:
        self.signature = served.signature()
        self.limits = limits
        self.kinds = media.kinds_of(served.manifest)
        self._specs = self.signature.inputs
        self._check = InputCheck(self.signature, limits)
        self._is_single = len(self._specs) == 1
        self._typed = {INPUT: self._decoders(INPUT)}

    def _decoders(self, key: str) -> _Typed:
        return [(decode, bool(dropped)) for dropped in (0, 1) if (decode := self._decoder(key, dropped))]

    def _decoder(self, key: str, dropped: int) -> Callable[[bytes], Any] | None:
        kind = json.nested_type(self._specs[0], dropped) if self._is_single else json.record_type(self.signature, dropped)
        if kind is None:
            return None
        return json.decoder(msgspec.defstruct("Body", [(INPUT, kind)], gc=False, rename={INPUT: key}))

    def decode(self, body: bytes, deadline: float | None = None) -> Asked:
        """Raises InvalidRequest."""
        json.check_amount(body)
        asked = self._decode_quickly(body, INPUT, deadline)
        if asked is not None:
            return asked
        key = _FIRST_KEY.match(body)
        if key is not None and key[1] != b"input":
            asked = self._decode_quickly(body, key[1].decode(), deadline)
        return asked or self._decode_exactly(exact.parse(body), deadline)

    def _decode_quickly(self, body: bytes, key: str, deadline: float | None) -> Asked | None:
        """None for what is not in the plain form, or wrong."""
        if key not in self._typed:
            self._typed[key] = self._decoders(key)
        for decode, is_item in self._typed[key]:
            try:
                value = decode(body).input
                values = [value] if self._is_single else json.values_of(value)
                if not json.has_strings(body, 1 if self._is_single else 1 + len(values)):
                    break
                arrays = [json.array_of(value, spec) for value, spec in zip(values, self._specs, strict=True)]
            except json.NOT_PLAIN:
                continue
            fields = [key] if self._is_single else [f"{key}.{clip(spec.name)}" for spec in self._specs]
            return Asked(self.request(arrays, is_item, fields, deadline), is_item, key == INPUT)
        return None

    def _decode_exactly(self, document: Any, deadline: float | None) -> Asked:
        key, values = simple_values.pick(document, self.signature, self.kinds)
        fields = [field for field, _ in values]
        arrays = [nested.to_array(value, spec, field, self.limits) for (field, value), spec in zip(values, self._specs, strict=True)]
        are_items = {_is_item(array, spec) for array, spec in zip(arrays, self._specs, strict=True)}
        if len(are_items) > 1:
            raise InvalidRequest("Either all inputs have a batch dim or none has.", code="SHAPE_MISMATCH", field=key or fields[0])
        is_item = are_items.pop()
        return Asked(self.request(arrays, is_item, fields, deadline), is_item, key == INPUT)

    def request(self, arrays: list[np.ndarray], is_item: bool, fields: list[str], deadline: float | None) -> Request:
        """The request, after the last checks. An item's arrays lack the batch dim. `fields` are the names by which errors call them."""
        if is_item:
            arrays = [array[np.newaxis] for array in arrays]
        rows = self._check.rows([array.shape for array in arrays], fields)
        for spec, array, field in zip(self._specs, arrays, fields, strict=True):
            self._check_contents(spec, array, field, is_item)
        return Request({spec.name: array for spec, array in zip(self._specs, arrays, strict=True)}, rows, deadline)

    def _check_contents(self, spec: TensorSpec, array: np.ndarray, field: str, is_item: bool) -> None:
        kind = self.kinds.get(spec.name)
        if kind in (media.IMAGE, media.AUDIO):
            for index, content in enumerate(array.reshape(-1)):
                media.check(kind, content, field if is_item else f"{field}[{index}]", self.limits.max_image_pixels)


def _is_item(array: np.ndarray, spec: TensorSpec) -> bool:
    return spec.shape is not None and array.ndim == len(spec.shape) - 1
