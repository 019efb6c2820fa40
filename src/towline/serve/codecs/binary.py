"""Tensors as raw bytes: the v2 protocol's binary tensor extension. Pure."""

from __future__ import annotations

import sys

import numpy as np

from towline.core import dtypes
from towline.core.errors import InvalidRequest
from towline.core.frames import FrameError, pack_strings, unpack_strings
from towline.core.manifest import TensorSpec
from towline.serve.codecs.check import Limits, check_string_count, element_count

_LITTLE = sys.byteorder == "little"


def decode_tensor(raw: memoryview, spec: TensorSpec, shape: tuple[int, ...], field: str, limits: Limits) -> np.ndarray:
    """The tensor whose little-endian, row-major bytes are all of `raw`; a view of it where alignment allows."""
    dtype = dtypes.BY_NAME[spec.dtype]
    count = element_count(shape)
    if dtype.size == 0:
        check_string_count(count, limits, field)
        try:
            return unpack_strings(raw, count).reshape(shape)
        except FrameError as error:
            raise InvalidRequest(f"Input '{spec.name}': {error.message}", code="BAD_BYTES", field=field) from None
    if count * dtype.size != len(raw):
        raise InvalidRequest(
            f"Input '{spec.name}' needs {count * dtype.size} bytes for its shape ({count} x {dtype.size}), got {len(raw)}.",
            code="WRONG_SIZE",
            field=field,
        )
    if spec.dtype == "bool":
        octets = np.frombuffer(raw, np.uint8)
        if octets.size and octets.max() > 1:
            raise InvalidRequest(f"Input '{spec.name}' is BOOL: each byte must be 0 or 1.", code="WRONG_TYPE", field=field)
    array = np.frombuffer(raw, dtype.numpy, count).reshape(shape)
    # Tensors follow JSON of any length; an engine in this process may read them with aligned loads.
    return array if array.flags.aligned else array.copy()


def encode_tensor(array: np.ndarray) -> bytes:
    """The array's little-endian, row-major bytes; strings each as length (u32) and bytes."""
    if array.dtype.kind in "OSU":
        return pack_strings(array)
    if array.dtype.byteorder == ">" or not _LITTLE:
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()
