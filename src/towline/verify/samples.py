"""Read a user's example inputs from .npz, .npy or .json, without pickle, and hold them to the signature."""

from __future__ import annotations

import ast
import json
import math
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import ImportRefused
from towline.core.manifest import Signature, TensorSpec
from towline.core.plain_file import read_plain_file

MAX_SAMPLE_BYTES = 256 << 20
MAX_ARRAYS = 1024
MAX_HEADER_BYTES = 10_000
_ARRAYS = (".npz", ".npy", ".json")
_HINT = 'A sample is a .npz with one array per input, a .npy, or JSON: {"inputs": {"x": [[…]]}}.'


def load_sample(path: Path, signature: Signature) -> dict[str, np.ndarray]:
    """One request from a file: arrays by input name, or a single array for a model with one input.

    For a model with one input of strings any other file is one such string: a picture, a sound, a text.
    Floats and integers are cast where nothing is lost but precision. Raises ImportRefused that names what does not fit.
    """
    raw = read_plain_file(path, MAX_SAMPLE_BYTES, _refused)
    if len(signature.inputs) == 1 and signature.inputs[0].dtype == "string" and path.suffix.lower() not in _ARRAYS:
        return fitted([raw], signature)
    readers = {b"PK\x03\x04": read_npz, b"\x93NUM": _npy_alone}
    given = readers.get(raw[:4], _json)(raw)
    return fitted(given, signature)


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


def read_npz(raw: bytes, *, max_bytes: int = MAX_SAMPLE_BYTES) -> dict[str, np.ndarray]:
    """The arrays of a .npz by name. Raises ImportRefused for a damaged one, for pickled arrays, and for what unpacks to too much."""
    try:
        with zipfile.ZipFile(BytesIO(raw)) as archive:
            members = archive.infolist()
            # What the directory claims is checked against what comes out: ZipFile reads no further than that.
            if len(members) > MAX_ARRAYS or sum(member.file_size for member in members) > max_bytes:
                raise _refused(f"it unpacks to more than {MAX_ARRAYS} arrays or {max_bytes} bytes")
            return {member.filename.removesuffix(".npy"): _npy(archive.read(member)) for member in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise _refused(f"it is a damaged .npz ({type(error).__name__})") from None


def _npy_alone(raw: bytes) -> Any:
    return _npy(raw)


def _npy(raw: bytes) -> np.ndarray:
    """An array from .npy bytes. numpy's own reader believes the header's shape before it looks at the data; this does not."""
    try:
        length_bytes = 2 if raw[6] == 1 else 4
        start = 8 + length_bytes
        end = start + int.from_bytes(raw[8:start], "little")
        header = ast.literal_eval(raw[start : min(end, start + MAX_HEADER_BYTES)].decode("latin-1"))
        dtype, shape, is_fortran = np.dtype(str(header["descr"])), tuple(map(int, header["shape"])), bool(header["fortran_order"])
    except (ValueError, SyntaxError, KeyError, TypeError, IndexError, RecursionError, MemoryError):
        raise _refused("it is a damaged .npy file, or holds no plain array") from None
    if dtype.hasobject or dtype.fields:
        raise _refused(f"it holds {dtype}, which would need pickle or is no plain array")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(raw) - end:
        raise _refused("it is a torn .npy file")
    array = np.frombuffer(raw, dtype, count, end) if count else np.empty(0, dtype)
    return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


def _json(raw: bytes) -> Any:
    try:
        given = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _refused("it is neither .npz, .npy nor JSON") from None
    if isinstance(given, dict) and len(given) == 1:
        given = next((given[key] for key in ("inputs", "instances", "input") if key in given), given)
    return given


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _refused(what: str) -> ImportRefused:
    return ImportRefused(f"The sample does not fit: {what}.", code="BAD_SAMPLE", field="sample", hint=_HINT)
