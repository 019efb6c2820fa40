"""Signatures: what TensorFlow says of a tensor, in our words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from towline.convert import wording
from towline.convert.declared_inputs import BATCH
from towline.core import dtypes
from towline.core.errors import ImportRefused
from towline.core.manifest import Signature, TensorSpec

MAX_SYMBOL_CHARS = 64


def signature_of(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Signature:
    """The signature for tf.TensorSpecs by name. Raises ImportRefused for what no request can carry."""
    return Signature(_specs(inputs, "input"), _specs(outputs, "output"))


def _specs(tensors: Mapping[str, Any], role: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, dtype_of(tensor, f"{role} {wording.name(name)}"), shape_of(name, tensor)) for name, tensor in tensors.items()
    )


def dtype_of(tensor: Any, label: str) -> str:
    kind = type(tensor).__name__
    if not hasattr(tensor, "shape") or "Ragged" in kind or "Sparse" in kind:
        raise ImportRefused(
            f"The model's {label} is a {kind.removesuffix('Spec')}, which no request can carry.",
            code="UNSUPPORTED_TYPE",
            hint="Turn it into a dense tensor inside the model when exporting.",
        )
    name = str(getattr(tensor.dtype, "name", tensor.dtype)).removesuffix("_ref")
    if name not in dtypes.BY_NAME:
        raise ImportRefused(
            f"The model's {label} is {name}, which no request can carry.",
            code="UNSUPPORTED_TYPE",
            hint=f"Cast it inside the model when exporting. Carried: {', '.join(dtype.name for dtype in dtypes.ALL)}.",
        )
    return name


def shape_of(name: str, tensor: Any) -> tuple[int | str, ...] | None:
    """An open first dim is the batch, any other a symbol of its own."""
    shape = tensor.shape
    if shape is None or getattr(shape, "rank", 0) is None:
        return None
    dims = shape.as_list() if hasattr(shape, "as_list") else list(shape)
    return tuple(_symbol(name, axis) if dim is None else int(dim) for axis, dim in enumerate(dims))


def _symbol(name: str, axis: int) -> str:
    return BATCH if axis == 0 else f"{name}_{axis}"[-MAX_SYMBOL_CHARS:]


def unique(names: Iterable[str]) -> list[str]:
    """The same names in the same order, those that come again with a number."""
    taken: dict[str, None] = {}
    for name in names:
        fresh, number = name, 1
        while fresh in taken:
            fresh, number = f"{name}_{number}", number + 1
        taken[fresh] = None
    return list(taken)
