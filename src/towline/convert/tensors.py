"""Check one tensor of a model: its dims in whole numbers of any size, and that its data is exactly as long as they say. Pure."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

from towline.convert import wording
from towline.core.errors import ImportRefused

MAX_RANK = 64
_EXTERNAL = 1
# Bits per element, by onnx's number of the type; strings (8) have no fixed size.
BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}
BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}
_STRING = 8
# Which typed field carries which types, and how many entries one element takes in it.
_FIELDS: dict[str, dict[int, int]] = {
    "float_data": {1: 1, 14: 2},
    "int32_data": dict.fromkeys((2, 3, 4, 5, 6, 9, 10, 16, 17, 18, 19, 20, 24), 1),
    "int64_data": {7: 1},
    "double_data": {11: 1, 15: 2},
    "uint64_data": {12: 1, 13: 1},
    "string_data": {8: 1},
}


def element_count(tensor: Any, where: str) -> int:
    """How many elements the dims of a TensorProto tell. Raises ImportRefused (INVALID_GRAPH) for dims no tensor has."""
    dims = list(tensor.dims)
    if len(dims) > MAX_RANK or any(dim < 0 for dim in dims):
        raise _invalid(tensor, where, f"has dims {_dims(dims)}: expected at most {MAX_RANK}, none negative")
    return math.prod(dims)


def check_tensor(tensor: Any, where: str, external_sizes: dict[str, int]) -> int:
    """Check a TensorProto against its own data; return its number of elements.

    `external_sizes` are the sizes in bytes of the files that lie beside the model, by normalised location.
    """
    count = element_count(tensor, where)
    kind = tensor.data_type
    if kind not in BITS and kind != _STRING:
        raise _invalid(tensor, where, f"has element type {kind}, which is unknown")
    if tensor.data_location == _EXTERNAL:
        _check_external(tensor, where, count, external_sizes)
        return count
    if tensor.HasField("raw_data"):
        expected, got = _raw_bytes(kind, count), len(tensor.raw_data)
        if kind == _STRING or got != expected:
            raise _invalid(tensor, where, f"has {got} bytes of data where its dims {_dims(tensor.dims)} need {expected}")
        return count
    _check_typed(tensor, where, count)
    return count


def _raw_bytes(kind: int, count: int) -> int:
    return -(-count * BITS.get(kind, 0) // 8)


def _check_typed(tensor: Any, where: str, count: int) -> None:
    kind = tensor.data_type
    for field, kinds in _FIELDS.items():
        got = len(getattr(tensor, field))
        packed = field == "int32_data" and BITS.get(kind, 8) < 8
        expected = _raw_bytes(kind, count) if packed else count * kinds.get(kind, 0)
        if got != expected:
            raise _invalid(tensor, where, f"has {got} values in {field} where its type and dims {_dims(tensor.dims)} need {expected}")


def _check_external(tensor: Any, where: str, count: int, external_sizes: dict[str, int]) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = str(PurePosixPath(entries.get("location", "")))
    if location not in external_sizes:
        raise _external(tensor, where, "names no file that came with the model")
    if tensor.data_type == _STRING:
        raise _external(tensor, where, "is a tensor of strings, which cannot lie in a file")
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or _raw_bytes(tensor.data_type, count))
    except ValueError:
        raise _external(tensor, where, "has an offset or length that is no number") from None
    if length != _raw_bytes(tensor.data_type, count) or offset < 0 or offset + length > external_sizes[location]:
        needed = _raw_bytes(tensor.data_type, count)
        raise _external(
            tensor, where, f"needs {needed} bytes at {offset}, told as {length}, from a file of {external_sizes[location]} bytes"
        )


def _external(tensor: Any, where: str, what: str) -> ImportRefused:
    return ImportRefused(
        f"The external data of tensor {wording.name(tensor.name)} {where} {what}.",
        code="EXTERNAL_DATA_SHORT",
        field="external_data",
        hint="Export the model again, with its data files.",
    )


def _invalid(tensor: Any, where: str, what: str) -> ImportRefused:
    return ImportRefused(
        f"Tensor {wording.name(tensor.name)} {where} {what}.", code="INVALID_GRAPH", hint="The file is damaged: export the model again."
    )


def _dims(dims: Any) -> str:
    shown = [str(dim) for dim in list(dims)[:8]]
    return f"[{', '.join(shown)}{', …' if len(dims) > 8 else ''}]"
