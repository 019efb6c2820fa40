"""Hold a user's example inputs to the signature: those of a file, or arrays at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import ImportRefused
from towline.core.manifest import Signature, TensorSpec
from towline.core.plain_file import read_plain_file
from towline.verify.array_files import HINT, SUFFIXES, read_arrays

MAX_SAMPLE_BYTES = 256 << 20


def load_sample(path: Path, signature: Signature) -> dict[str, np.ndarray]:
    """One request from a file: arrays by input name, or a single array for a model with one input.

    For a model with one input of strings any other file is one such string: a picture, a sound, a text.
    Floats and integers are cast where nothing is lost but precision. Raises ImportRefused that names what does not fit.
    """
    raw = read_plain_file(path, MAX_SAMPLE_BYTES, _refused)
    if len(signature.inputs) == 1 and signature.inputs[0].dtype == "string" and path.suffix.lower() not in SUFFIXES:
        return fitted([raw], signature)
    return fitted(read_arrays(raw, _refused, max_bytes=MAX_SAMPLE_BYTES), signature)


def fitted(given: Any, signature: Signature) -> dict[str, np.ndarray]:
    """`given` as a request of this signature: a mapping by input name, or the one input's array or nested list."""
    names = [spec.name for spec in signature.inputs]
    if not isinstance(given, Mapping):
        if len(names) != 1:
            raise _refused(f"it holds one array, but the model has the inputs {', '.join(map(repr, names[:8]))}")
        given = {names[0]: given}
    if len(names) == 1 and len(given) == 1 and names[0] not in given:
        given = {names[0]: next(iter(given.values()))}
    missing, extra = [name for name in names if name not in given], [name for name in given if name not in names]
    if missing or extra:
        wrong = f"lacks input {missing[0]!r}" if missing else f"holds {str(extra[0])[:64]!r}, which is no input"
        raise _refused(f"it {wrong}; the model's inputs are {', '.join(map(repr, names[:8]))}")
    request = {spec.name: _array(given[spec.name], spec) for spec in signature.inputs}
    _check_symbols(request, signature)
    return request


def _array(value: Any, spec: TensorSpec) -> np.ndarray:
    dtype = dtypes.BY_NAME[spec.dtype]
    try:
        array = np.asarray(value, dtype=object if not dtype.size else None)
    except ValueError:
        raise _refused(f"input {spec.name!r} has rows of unlike length") from None
    array = _strings(array, spec) if not dtype.size else _numbers(array, spec, dtype)
    if spec.shape is not None and (
        array.ndim != len(spec.shape)
        or any(isinstance(dim, int) and dim != size for dim, size in zip(spec.shape, array.shape, strict=True))
    ):
        raise _refused(f"input {spec.name!r} has shape {list(array.shape)}, expected [{', '.join(map(str, spec.shape))}]")
    if array.ndim and not len(array):
        raise _refused(f"input {spec.name!r} has no rows")
    return array


def _numbers(array: np.ndarray, spec: TensorSpec, dtype: dtypes.DType) -> np.ndarray:
    numeric = array.dtype.kind in ("iuf" if dtype.is_float else "iu" if dtype.is_integer else "b")
    if not numeric:
        raise _refused(f"input {spec.name!r} holds {array.dtype.name}, expected {spec.dtype}")
    if dtype.is_integer and array.size:
        limits = np.iinfo(dtype.numpy)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise _refused(f"input {spec.name!r} holds values beyond the range of {spec.dtype}")
    return np.ascontiguousarray(array, dtype=dtype.numpy)


def _strings(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    plain = np.empty(array.shape, dtype=object)
    for index, element in np.ndenumerate(array):
        if not isinstance(element, str | bytes):
            raise _refused(f"input {spec.name!r} holds {type(element).__name__}, expected strings")
        plain[index] = element.encode() if isinstance(element, str) else element
    return plain


def _check_symbols(request: Mapping[str, np.ndarray], signature: Signature) -> None:
    seen: dict[str, int] = {}
    for spec in signature.inputs:
        for dim, size in zip(spec.shape or (), request[spec.name].shape, strict=False):
            if isinstance(dim, str) and seen.setdefault(dim, size) != size:
                raise _refused(f"'{dim}' is {seen[dim]} in one input and {size} in {spec.name!r}")


def _refused(what: str) -> ImportRefused:
    return ImportRefused(f"The sample does not fit: {what}.", code="BAD_SAMPLE", field="sample", hint=HINT)
