"""Read from a signature whether its shapes allow a batch, and which unnamed dims may be that batch. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from towline.core.manifest import Signature, TensorSpec
from towline.verify.inputs import batch_symbol, renamed


def unified(signature: Signature, unnamed: Collection[str], *, sample: Mapping[str, np.ndarray] | None = None) -> Signature:
    """The signature with the unnamed leading dims of its inputs taken for one and the same, if nothing speaks against it.

    A guess for exporters that name no dims: the smoke test proves it or drops it. A sample that leads with unlike sizes disproves it.
    """
    leading = [spec.shape[0] if spec.shape else None for spec in signature.inputs]
    symbols = [dim for dim in leading if isinstance(dim, str)]
    named = {dim for dim in symbols if dim not in unnamed}
    if len(symbols) != len(leading) or len(set(symbols)) < 2 or len(named) > 1:
        return signature
    if sample is not None and len({len(sample[spec.name]) for spec in signature.inputs}) > 1:
        return signature
    symbol = named.pop() if named else symbols[0]
    return renamed(signature, {dim: symbol for dim in symbols if dim in unnamed})


def why_not_rowwise(signature: Signature, unnamed: Collection[str]) -> str:
    """Why the shapes alone forbid merging requests, or nothing. An unnamed leading dim of an output may yet be measured to be the batch."""
    batch = batch_symbol(signature)
    if not batch:
        return _why_no_batch(signature)
    for spec in (*signature.inputs, *signature.outputs):
        if batch in (spec.shape or ())[1:]:
            return f"'{batch}' is not only the leading dim of '{spec.name}'"
    for spec in signature.outputs:
        if not spec.shape:
            return f"output '{spec.name}' tells no leading dim"
        if spec.shape[0] != batch and spec.shape[0] not in unnamed:
            return f"output '{spec.name}' leads with {_dim(spec)}, not with '{batch}' as the inputs do"
    return ""


def _why_no_batch(signature: Signature) -> str:
    if not signature.inputs:
        return "it has no inputs"
    for spec in signature.inputs:
        if not spec.shape:
            return f"input '{spec.name}' tells no leading dim"
        if isinstance(spec.shape[0], int):
            return f"input '{spec.name}' leads with {_dim(spec)}"
    leading = ", ".join(f"'{spec.name}' with {_dim(spec)}" for spec in signature.inputs[:4])
    return f"its inputs lead with unlike dims: {leading}"


def _dim(spec: TensorSpec) -> str:
    dim = (spec.shape or ("?",))[0]
    return f"the fixed size {dim}" if isinstance(dim, int) else f"'{dim}'"


def with_measured_rows(signature: Signature, unnamed: Collection[str]) -> Signature:
    """Outputs whose unnamed leading dim was measured to be the batch get its symbol, so that everybody can rely on it."""
    batch = batch_symbol(signature)
    return Signature(signature.inputs, tuple(_leading(spec, batch) if _is_unnamed(spec, unnamed) else spec for spec in signature.outputs))


def _is_unnamed(spec: TensorSpec, unnamed: Collection[str]) -> bool:
    return bool(spec.shape) and spec.shape is not None and spec.shape[0] in unnamed


def _leading(spec: TensorSpec, batch: str) -> TensorSpec:
    return TensorSpec(spec.name, spec.dtype, (batch, *(spec.shape or ())[1:]))
