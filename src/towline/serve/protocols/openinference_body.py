"""Open Inference Protocol: an infer request's JSON -> its parts, and whether it holds anything else. Pure."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from towline.core.errors import InvalidRequest
from towline.core.refs import clip
from towline.serve.codecs import exact, json
from towline.serve.codecs.check import MAX_DIM

Parameters = dict[str, Any] | UnsetType | None


class Input(msgspec.Struct, gc=False):
    """One input; its values in `data`, or as bytes after the JSON."""

    name: str
    datatype: str
    shape: list[Annotated[int, Meta(ge=0, le=MAX_DIM)]]
    parameters: Parameters = UNSET
    data: msgspec.Raw | UnsetType = UNSET


class Output(msgspec.Struct, gc=False):
    """One output as it was asked for."""

    name: str
    parameters: Parameters = UNSET


class Body(msgspec.Struct, gc=False):
    inputs: list[Input]
    id: str | UnsetType | None = UNSET
    parameters: Parameters = UNSET
    outputs: list[Output] | UnsetType | None = UNSET


_decode_body = msgspec.json.Decoder(Body).decode


def header_size(value: bytes, body_size: int) -> int:
    """How many bytes of the body are JSON; 0 for none."""
    # Before int(): it also takes signs, spaces and underscores, and any number of digits.
    size = int(value) if value.isdigit() and len(value) <= 18 else -1
    if not 0 <= size <= body_size:
        shown = clip(value.decode("ascii", "replace"), 24)
        raise InvalidRequest(
            f"inference header size should be in range (0, {body_size}), got: {shown!r}",
            code="BAD_HEADER_LENGTH",
            field="inference-header-content-length",
        )
    return size


def parse(head: bytes) -> Body:
    json.check_amount(head)
    try:
        parsed = _decode_body(head)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        # The exact parser says what is wrong with the JSON; when nothing is, msgspec says what is wrong with its content.
        exact.parse(head)
        if isinstance(error, msgspec.DecodeError):
            raise exact.explain(error) from None
        raise InvalidRequest("The body is no infer request.", code="BAD_JSON") from None
    try:
        is_plain = head.count(b'"') == 2 * _strings(parsed) + _quotes_in_data(parsed)
    except RecursionError:
        raise InvalidRequest("The parameters are nested too deeply.", code="BAD_JSON", field="parameters") from None
    if not is_plain:
        # There are strings nobody asked for: strangers are ignored, duplicate keys refused.
        exact.parse(head)
    return parsed


def _strings(body: Body) -> int:
    """How many strings, keys included, the fields that were decoded are made of (without `data`)."""
    count = 1 + _strings_in(body.parameters, 1) + (body.outputs is not UNSET)
    if body.id is not UNSET:
        count += 2 if isinstance(body.id, str) else 1
    for given in body.inputs:
        count += 5 + _strings_in(given.parameters, 1) + (given.data is not UNSET)
    for output in body.outputs or []:
        count += 2 + _strings_in(output.parameters, 1)
    return count


def _strings_in(value: Any, key: int) -> int:
    """Strings in a JSON value, plus `key` for the key it stands under when there is one."""
    if value is UNSET:
        return 0
    if isinstance(value, str):
        return key + 1
    if isinstance(value, dict):
        return key + sum(_strings_in(item, 1) for item in value.values())
    if isinstance(value, list):
        return key + sum(_strings_in(item, 0) for item in value)
    return key


def _quotes_in_data(body: Body) -> int:
    return sum(bytes(given.data).count(b'"') for given in body.inputs if given.data is not UNSET)
