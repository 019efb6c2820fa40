"""The elements of a tensor where a message lists them one by one: as protobuf's list, or as a run of bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import InvalidRequest
from towline.core.manifest import TensorSpec
from towline.serve.codecs import binary
from towline.serve.protocols.grpc import varints
from towline.serve.protocols.grpc.wire import NotPlain

# Protobuf's words for the types of numbers that are listed.
KINDS = {kind: np.dtype(name).newbyteorder("<") for kind, name in (("float", "float32"), ("double", "float64"))} | {
    kind: np.dtype(kind) for kind in ("bool", "int32", "int64", "uint32", "uint64")
}
# As many elements are read or written one by one as fast as in one piece.
FEW = 64


class Run:
    """One packed list of numbers, still as it lies in its message. Raises NotPlain where protobuf would refuse it."""

    __slots__ = ("_dtype", "_octets", "_size")

    def __init__(self, octets: memoryview, kind: str) -> None:
        self._dtype = KINDS[kind]
        self._octets = np.frombuffer(octets, np.uint8)
        if self._is_fixed:
            self._size, rest = divmod(len(octets), self._dtype.itemsize)
            is_torn = bool(rest)
        else:
            self._size, is_torn = varints.count(self._octets), octets[-1] >= varints.MORE
        if is_torn:
            raise NotPlain

    @property
    def _is_fixed(self) -> bool:
        return self._dtype.kind == "f"

    def __len__(self) -> int:
        return self._size

    def array(self) -> np.ndarray:
        """The elements [n] as the list's own type: floats as a view where they are aligned. Raises varints.Malformed."""
        if not self._is_fixed:
            return varints.decode(self._octets, self._dtype, self._size)
        array = self._octets.view(self._dtype)
        # An engine in this process may read them with aligned loads.
        return array if array.flags.aligned else array.copy()


def array_from(values: Sequence[Any] | Run, spec: TensorSpec, field: str) -> np.ndarray:
    """A flat array of the spec's type. Raises InvalidRequest for a number that the type cannot hold."""
    dtype = dtypes.BY_NAME[spec.dtype]
    if dtype.size == 0:
        return np.fromiter(values, object, len(values))  # type: ignore[arg-type]
    is_narrow = dtype.is_integer and dtype.size < 4
    array = _in_one_piece(values, np.dtype(np.int64) if is_narrow else dtype.numpy, field)
    if is_narrow:
        # The message's own type is wider than the tensor's.
        _check_range(array, spec, field)
    return array.astype(dtype.numpy, copy=False)


def _in_one_piece(values: Any, dtype: np.dtype, field: str) -> np.ndarray:
    """`dtype` is taken where elements are read one by one; else it is the list's own."""
    if isinstance(values, Run):
        try:
            return values.array()
        except varints.Malformed:
            raise InvalidRequest("A number is longer than ten bytes.", code="BAD_MESSAGE", field=field) from None
    # Protobuf's lists know how from release 7.34 on.
    if len(values) > FEW and hasattr(values, "__array__"):
        return np.asarray(values)
    return np.fromiter(values, dtype, len(values))


def _check_range(array: np.ndarray, spec: TensorSpec, field: str) -> None:
    dtype = dtypes.BY_NAME[spec.dtype]
    bounds = np.iinfo(dtype.numpy)
    outside = np.flatnonzero((array < bounds.min) | (array > bounds.max))
    if outside.size:
        index = int(outside[0])
        raise InvalidRequest(
            f"Input '{spec.name}' is {dtype.v2}: {int(array[index])} is not from {bounds.min} to {bounds.max}.",
            code="OUT_OF_RANGE",
            field=f"{field}[{index}]",
        )


def listed(array: np.ndarray) -> list[Any]:
    """The elements of an array of any shape, one by one, as protobuf's lists take them; text as bytes."""
    values: list[Any] = array.reshape(-1).tolist()
    if array.dtype.kind in "OSU":
        return [value.encode() if isinstance(value, str) else bytes(value) for value in values]
    return values


def packed(array: np.ndarray) -> bytes:
    """Numbers of any shape and type as the value of a packed list: floats are their own bytes, the others varints."""
    flat = array.reshape(-1)
    return binary.encode_tensor(flat) if flat.dtype.kind == "f" else varints.encode(flat)
