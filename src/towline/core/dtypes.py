"""The element types Towline carries, and what each is called elsewhere. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DType:
    """One element type.

    `name` is ours and numpy's; `v2` is the Open Inference Protocol's, `tf` TensorFlow's, `ort` ONNX Runtime's.
    `code` is its number in frames (core/frames.py) and never changes. `size` is bytes per element, 0 for strings.
    """

    name: str
    code: int
    size: int
    v2: str
    tf: str
    ort: str
    numpy: np.dtype

    @property
    def is_float(self) -> bool:
        return self.name.startswith("float")

    @property
    def is_integer(self) -> bool:
        return "int" in self.name


def _row(name: str, code: int, v2: str, tf: str, ort: str) -> DType:
    if name == "string":
        return DType(name, code, 0, v2, tf, ort, np.dtype(object))
    dtype = np.dtype(name).newbyteorder("<")
    return DType(name, code, dtype.itemsize, v2, tf, ort, dtype)


ALL = (
    _row("float32", 1, "FP32", "DT_FLOAT", "tensor(float)"),
    _row("float64", 2, "FP64", "DT_DOUBLE", "tensor(double)"),
    _row("float16", 3, "FP16", "DT_HALF", "tensor(float16)"),
    _row("int8", 4, "INT8", "DT_INT8", "tensor(int8)"),
    _row("int16", 5, "INT16", "DT_INT16", "tensor(int16)"),
    _row("int32", 6, "INT32", "DT_INT32", "tensor(int32)"),
    _row("int64", 7, "INT64", "DT_INT64", "tensor(int64)"),
    _row("uint8", 8, "UINT8", "DT_UINT8", "tensor(uint8)"),
    _row("uint16", 9, "UINT16", "DT_UINT16", "tensor(uint16)"),
    _row("uint32", 10, "UINT32", "DT_UINT32", "tensor(uint32)"),
    _row("uint64", 11, "UINT64", "DT_UINT64", "tensor(uint64)"),
    _row("bool", 12, "BOOL", "DT_BOOL", "tensor(bool)"),
    _row("string", 13, "BYTES", "DT_STRING", "tensor(string)"),
)

BY_NAME = {dtype.name: dtype for dtype in ALL}
_BY_NUMPY = {dtype.numpy: dtype for dtype in ALL}
# The numpy types whose elements all have the same size: everything but strings.
WITH_SIZE = frozenset(dtype.numpy for dtype in ALL if dtype.size)
BY_CODE = {dtype.code: dtype for dtype in ALL}
BY_V2 = {dtype.v2: dtype for dtype in ALL}
BY_ORT = {dtype.ort: dtype for dtype in ALL}


def of_array(array: np.ndarray) -> DType | None:
    """The type of a numpy array: object and bytes arrays are strings; None for what no model takes (complex, dates)."""
    found = _BY_NUMPY.get(array.dtype)
    if found is not None:
        return found
    if array.dtype.kind in "OSU":
        return BY_NAME["string"]
    return BY_NAME.get(array.dtype.newbyteorder("=").name)
