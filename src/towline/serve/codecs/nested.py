"""Turn parsed JSON (nested lists) into an array, naming the exact element that is wrong. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import InvalidRequest
from towline.core.manifest import TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import exact
from towline.serve.codecs.check import MAX_RANK, Limits, check_string_count

# The first magnitude that no longer rounds to a finite number of the type.
FLOAT_BOUNDS = {"float16": 65520.0, "float32": 3.4028235677973366e38, "float64": float("inf")}
_JSON_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", dict: "an object", list: "a list"}
_TAKEN: dict[str, tuple[set[type], str]] = {
    "float": ({int, float, exact.Token}, "a number"),
    "int": ({int}, "a whole number"),
    "bool": ({bool}, "true or false"),
    "string": ({str, dict}, 'a string or {"b64": …}'),
}


def to_array(value: Any, spec: TensorSpec, field: str, limits: Limits) -> np.ndarray:
    """`value` as an array of the spec's dtype, whatever its shape. Raises InvalidRequest with the element's path as field."""
    shape = _shape(value, field)
    flat: list[Any] = []
    kind = _kind(spec.dtype)
    if shape:
        _flatten(value, shape, [], kind, spec, field, flat)
    else:
        _check_types([value], kind, spec, field, None)
        flat.append(value)
    return _convert(flat, tuple(shape), kind, spec, field, limits)


def _shape(value: Any, field: str) -> list[int]:
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > MAX_RANK:
            raise InvalidRequest(f"The value is nested more than {MAX_RANK} deep.", code="SHAPE_MISMATCH", field=field)
        if not value:
            break
        value = value[0]
    return shape


def _flatten(value: list[Any], shape: list[int], path: list[int], kind: str, spec: TensorSpec, field: str, flat: list[Any]) -> None:
    depth = len(path)
    if depth == len(shape) - 1:
        _check_types(value, kind, spec, field, path)
        flat.extend(value)
        return
    for index, item in enumerate(value):
        path.append(index)
        if not isinstance(item, list):
            raise _ragged(f"expected a list of {shape[depth + 1]}, got {_word(item)}", spec, _at(field, path))
        if len(item) != shape[depth + 1]:
            raise _ragged(f"expected {shape[depth + 1]} elements as in the first, got {len(item)}", spec, _at(field, path))
        _flatten(item, shape, path, kind, spec, field, flat)
        path.pop()


def _check_types(row: list[Any], kind: str, spec: TensorSpec, field: str, path: list[int] | None) -> None:
    taken, words = _TAKEN[kind]
    if set(map(type, row)) <= taken:
        return
    index = next(index for index, item in enumerate(row) if type(item) not in taken)
    where = _at(field, [*path, index]) if path is not None else field
    item = row[index]
    if isinstance(item, list):
        raise _ragged(f"expected {words}, got a list", spec, where)
    raise InvalidRequest(
        f"{where} must be {words} for input '{spec.name}' ({spec.dtype}), got {_word(item)}.", code="WRONG_TYPE", field=where
    )


def _convert(flat: list[Any], shape: tuple[int, ...], kind: str, spec: TensorSpec, field: str, limits: Limits) -> np.ndarray:
    dtype = dtypes.BY_NAME[spec.dtype].numpy
    if kind == "string":
        check_string_count(len(flat), limits, field)
        array = np.empty(len(flat), dtype=object)
        for index, item in enumerate(flat):
            array[index] = _string(item, field, index, shape)
        return array.reshape(shape)
    try:
        wide = np.array(flat, np.float64 if kind == "float" else dtype)
    except OverflowError:
        raise _out_of_range(flat, shape, kind, spec, field) from None
    if kind == "float":
        # A number beyond the type would become infinity; only the word Infinity may.
        beyond = np.abs(wide) >= FLOAT_BOUNDS[spec.dtype]
        if beyond.any() and any(type(flat[index]) is not exact.Token for index in np.flatnonzero(beyond)):
            raise _out_of_range(flat, shape, kind, spec, field)
        wide = wide.astype(dtype)
    return wide.reshape(shape)


def _out_of_range(flat: list[Any], shape: tuple[int, ...], kind: str, spec: TensorSpec, field: str) -> InvalidRequest:
    if kind == "float":
        bound: float = FLOAT_BOUNDS[spec.dtype]
        index = next(i for i, item in enumerate(flat) if type(item) is not exact.Token and not _below(item, bound))
        words = f"a {spec.dtype} holds at most ±{np.finfo(spec.dtype).max:g}"
    else:
        info = np.iinfo(spec.dtype)
        index = next(i for i, item in enumerate(flat) if not info.min <= item <= info.max)
        words = f"a {spec.dtype} holds {info.min} to {info.max}"
    where = _at(field, _path(index, shape))
    return InvalidRequest(f"{where} is out of range for input '{spec.name}': {words}.", code="OUT_OF_RANGE", field=where)


def _below(item: float, bound: float) -> bool:
    try:
        return abs(float(item)) < bound
    except OverflowError:
        return False


def _string(item: str | dict[str, Any], field: str, index: int, shape: tuple[int, ...]) -> bytes:
    if isinstance(item, str):
        return item.encode()
    where = _at(field, _path(index, shape))
    encoded = item.get("b64")
    if len(item) != 1 or not isinstance(encoded, str):
        raise InvalidRequest(f'{where} must be a string or {{"b64": "<base64>"}}.', code="WRONG_TYPE", field=where)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{where} is not valid base64: Unable to base64 decode.", code="BAD_BASE64", field=where) from None


def _kind(dtype: str) -> str:
    if dtype in ("bool", "string"):
        return dtype
    return "float" if dtype.startswith("float") else "int"


def _path(index: int, shape: tuple[int, ...]) -> list[int]:
    return [int(part) for part in np.unravel_index(index, shape)] if shape else []


def _at(field: str, path: list[int]) -> str:
    return field + "".join(f"[{index}]" for index in path)


def _word(item: Any) -> str:
    if item is None:
        return "null"
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float) and not isinstance(item, exact.Token):
        return f"{item!r}"
    return clip(_JSON_WORDS.get(type(item), "NaN or Infinity"))


def _ragged(reason: str, spec: TensorSpec, field: str) -> InvalidRequest:
    return InvalidRequest(f"{field} is ragged: {reason} (input '{spec.name}').", code="RAGGED", field=field)
