"""Read a model's signature: inputs that are no constants, outputs, and a symbol for every dim that is left open. Pure."""

from __future__ import annotations

from typing import Any

from towline.convert import wording
from towline.core import dtypes
from towline.core.errors import ImportRefused
from towline.core.frames import MAX_RANK, MAX_TENSORS
from towline.core.manifest import Signature, TensorSpec

MAX_NAME_BYTES = 256
MAX_SYMBOL_CHARS = 64
_CARRIED = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool", 10: "float16"}
_CARRIED |= {11: "float64", 12: "uint32", 13: "uint64"}
_NOT_CARRIED = {14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2"}
_NOT_CARRIED |= {20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2"}
_CONTAINERS = {
    "sequence_type": "a sequence",
    "optional_type": "an optional",
    "map_type": "a map",
    "sparse_tensor_type": "a sparse tensor",
    "opaque_type": "an opaque value",
}


def read_signature(graph: Any) -> tuple[Signature, tuple[str, ...]]:
    """The signature of a GraphProto, and the symbols made up for dims that had no name. Raises ImportRefused by the tensor's name."""
    constants = {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    for what, values in (("inputs", inputs), ("outputs", list(graph.output))):
        if len(values) > MAX_TENSORS:
            raise ImportRefused(f"The model has {len(values)} {what}; at most {MAX_TENSORS} are taken.", code="LIMIT_EXCEEDED")
    symbols = _Symbols(
        {dim.dim_param for value in (*inputs, *graph.output) for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_param")}
    )
    signature = Signature(
        inputs=tuple(_spec(value, "input", symbols) for value in inputs),
        outputs=tuple(_spec(value, "output", symbols) for value in graph.output),
    )
    return signature, tuple(symbols.made_up)


def _spec(value: Any, role: str, symbols: _Symbols) -> TensorSpec:
    label = f"{role} {wording.name(value.name)}"
    if not value.name or not value.name.isprintable() or len(value.name.encode()) > MAX_NAME_BYTES:
        raise ImportRefused(
            f"The name of {label} is empty, too long or not printable: expected 1-{MAX_NAME_BYTES} bytes of text.",
            code="BAD_TENSOR_NAME",
            field=role,
            hint="Rename it when exporting.",
        )
    return TensorSpec(value.name, _dtype(value.type, label, role), _shape(value, label, symbols))


def _dtype(kind: Any, label: str, role: str) -> str:
    for container, words in _CONTAINERS.items():
        if container in (field.name for field, _ in kind.ListFields()):
            raise _not_carried(label, role, words)
    number = kind.tensor_type.elem_type
    if number not in _CARRIED:
        raise _not_carried(label, role, _NOT_CARRIED.get(number, "no known type"))
    return _CARRIED[number]


def _not_carried(label: str, role: str, words: str) -> ImportRefused:
    hint = "Turn it into tensors when exporting; for scikit-learn: to_onnx(…, options={'zipmap': False})."
    if words in _NOT_CARRIED.values():
        hint = f"Cast it inside the model when exporting. Carried: {', '.join(dtype.name for dtype in dtypes.ALL)}."
    return ImportRefused(f"The model's {label} is {words}, which no request can carry.", code="UNSUPPORTED_TYPE", field=role, hint=hint)


def _shape(value: Any, label: str, symbols: _Symbols) -> tuple[int | str, ...] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    if len(dims) > MAX_RANK:
        raise ImportRefused(f"The model's {label} has rank {len(dims)}; at most {MAX_RANK} is taken.", code="LIMIT_EXCEEDED")
    return tuple(
        # Some exporters write -1 for a dim that is left open.
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else symbols.of(dim.dim_param, value.name, axis)
        for axis, dim in enumerate(dims)
    )


class _Symbols:
    """Names for open dims: the model's own where they are fit to print, else made up ones that clash with none."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = set(taken)
        self._renamed: dict[str, str] = {}
        self.made_up: list[str] = []

    def of(self, given: str, tensor: str, axis: int) -> str:
        if given.strip() and given.isprintable() and len(given) <= MAX_SYMBOL_CHARS:
            return given
        if given.strip():
            # Odd, but a name all the same: it stands for one size wherever it appears.
            if given not in self._renamed:
                self._renamed[given] = self._fresh(f"dim_{len(self._renamed)}")
            return self._renamed[given]
        symbol = self._fresh(f"{tensor}_{axis}"[-MAX_SYMBOL_CHARS:])
        self.made_up.append(symbol)
        return symbol

    def _fresh(self, wish: str) -> str:
        symbol = wish
        number = 2
        while symbol in self._taken:
            symbol = f"{wish}_{number}"
            number += 1
        self._taken.add(symbol)
        return symbol
