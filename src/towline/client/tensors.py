"""Turn what a caller has, lists or arrays, into arrays of a signature's types, or say why not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import InvalidRequest


def named_inputs(inputs: Any, names: Sequence[str]) -> dict[str, Any]:
    """`inputs` by name: a mapping as it is, anything else is the one input of a model that has one."""
    if isinstance(inputs, Mapping):
        _check_names(inputs, names)
        return {name: inputs[name] for name in names}
    if len(names) != 1:
        raise InvalidRequest(f"The model has {len(names)} inputs ({', '.join(names)}): give a dict of arrays by name.", field="inputs")
    return {names[0]: inputs}


def _check_names(inputs: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if name not in inputs:
            raise InvalidRequest(f"Input '{name}' is missing. The model's inputs: {', '.join(names)}.", code="MISSING_INPUT", field=name)
    for name in inputs:
        if name not in names:
            raise InvalidRequest(
                f"The model has no input {str(name)[:64]!r}. Its inputs: {', '.join(names)}.", code="UNKNOWN_INPUT", field=str(name)[:64]
            )


def as_tensor(name: str, value: Any, dtype: dtypes.DType) -> np.ndarray:
    """`value` as a C-contiguous array of `dtype`, without changing its meaning.

    An integer may become a float, and a float a shorter one; an integer may change its size if it fits. Refused with
    InvalidRequest: a bool or text as a number, a float as an integer, null, what does not fit, rows of unequal length.
    """
    array = _as_array(name, value)
    if dtype.name == "string":
        return _as_strings(name, array)
    found = array.dtype
    if found == dtype.numpy:
        return np.ascontiguousarray(array).reshape(array.shape)
    if array.size == 0 and not isinstance(value, np.ndarray):
        return np.zeros(array.shape, dtype.numpy)
    if not _may_become(found, dtype):
        raise InvalidRequest(f"Input '{name}' takes {dtype.name}, got {_words(found)}.", code="WRONG_DTYPE", field=name)
    _check_range(name, array, dtype)
    return np.ascontiguousarray(array, dtype.numpy).reshape(array.shape)


def _as_array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"Input '{name}' has rows of unequal length or is nested too deep.", code="RAGGED", field=name) from error
    if array.dtype.kind == "U" and not isinstance(value, np.ndarray) and not _is_all_text(value):
        # numpy writes [1, "a"] as two strings; the caller meant no such thing.
        raise InvalidRequest(f"Input '{name}' mixes text and numbers.", code="WRONG_DTYPE", field=name)
    if array.dtype.kind in "biuf" and not isinstance(value, np.ndarray) and array.dtype.kind != "b" and _holds_bool(value):
        raise InvalidRequest(f"Input '{name}' mixes true or false and numbers.", code="WRONG_DTYPE", field=name)
    return array


def _is_all_text(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_all_text(item) for item in value)
    return isinstance(value, (str, bytes))


def _holds_bool(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_bool(item) for item in value)
    return isinstance(value, (bool, np.bool_))


def _may_become(found: np.dtype, dtype: dtypes.DType) -> bool:
    if dtype.is_float:
        return found.kind in "fiu"
    return dtype.is_integer and found.kind in "iu"


def _check_range(name: str, array: np.ndarray, dtype: dtypes.DType) -> None:
    limits: Any = np.finfo(dtype.numpy) if dtype.is_float else np.iinfo(dtype.numpy)
    with np.errstate(invalid="ignore"):
        outside = (array < limits.min) | (array > limits.max)
    if array.dtype.kind == "f":
        outside &= np.isfinite(array)
    if outside.any():
        raise InvalidRequest(
            f"Input '{name}' takes {dtype.name}: {str(array[outside].flat[0])[:32]} does not fit.", code="OUT_OF_RANGE", field=name
        )


def _as_strings(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "SUO":
        raise InvalidRequest(f"Input '{name}' takes text, got {_words(array.dtype)}.", code="WRONG_DTYPE", field=name)
    strings = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        element: object = array[index]
        if not isinstance(element, (str, bytes)):
            raise InvalidRequest(f"Input '{name}' takes text, got {type(element).__name__}.", code="WRONG_DTYPE", field=name)
        strings[index] = element.encode() if isinstance(element, str) else bytes(element)
    return strings


def _words(found: np.dtype) -> str:
    return {"O": "null or mixed values", "U": "text", "S": "text", "b": "true or false"}.get(found.kind, found.name)
