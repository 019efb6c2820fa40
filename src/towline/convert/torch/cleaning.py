"""Make an exported graph fit for us: folded and slimmed, with the names and dims of the signature. Needs onnx and onnxslim, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx

from towline.convert import wording
from towline.convert.base import ConversionFailed
from towline.core import dtypes
from towline.core.manifest import Signature, TensorSpec

# What ONNX Runtime has read for years; exporters write newer ones without needing them.
IR_VERSION = 10
# A larger graph is left as it is: slimming holds several copies of it.
MAX_SLIM_BYTES = 1 << 30


def clean(file: Path, signature: Signature, layers: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Rewrite `file`. Returns those of `layers`, tensors by layer, whose tensors are still there, and notes. Raises ConversionFailed."""
    if any(other != file for other in file.parent.iterdir()):
        # With its weights beside it.
        model = onnx.load(str(file), load_external_data=False)
        notes: tuple[str, ...] = ("The graph was left as exported: it has more than 1 GiB of weights.",)
    else:
        model, notes = _slimmed(onnx.load(str(file)))
    _declare(model.graph, signature)
    model.ir_version = min(model.ir_version, IR_VERSION)
    onnx.save(model, str(file))
    there = {name for node in model.graph.node for name in node.output}
    return {layer: tensor for layer, tensor in layers.items() if tensor in there}, notes


def _slimmed(model: Any) -> tuple[Any, tuple[str, ...]]:
    if model.ByteSize() > MAX_SLIM_BYTES:
        return model, ()
    import onnxslim

    before = len(model.graph.node)
    try:
        slim = onnxslim.slim(model)
    except Exception as error:
        # It has a bug for some graphs; the graph as exported is as good, only longer.
        return model, (f"The graph was left as exported: onnxslim failed on it ({wording.sentence(str(error))[:100]}).",)
    return slim, (f"The graph was slimmed from {before} to {len(slim.graph.node)} nodes.",) if len(slim.graph.node) < before else ()


def _declare(graph: Any, signature: Signature) -> None:
    """Give the graph the signature's inputs and outputs, in its order and with its names of dims, where it really has them."""
    inputs, outputs = ({one.name: one for one in values} for values in (graph.input, graph.output))
    for spec in signature.inputs:
        # What the model takes and never uses was left out by the exporter; clients still send it.
        _check(spec, inputs.get(spec.name))
    missing = [spec.name for spec in signature.outputs if spec.name not in outputs]
    if missing:
        raise ConversionFailed(f"The exported graph lacks the output {wording.name(missing[0])}.")
    for spec in signature.outputs:
        _check(spec, outputs[spec.name], may_be_open=True)
    _replace(graph.input, signature.inputs)
    _replace(graph.output, signature.outputs)


def _replace(values: Any, specs: Iterable[TensorSpec]) -> None:
    del values[:]
    for spec in specs:
        number = onnx.helper.np_dtype_to_tensor_dtype(dtypes.BY_NAME[spec.dtype].numpy)
        values.append(onnx.helper.make_tensor_value_info(spec.name, number, spec.shape))


def _check(spec: TensorSpec, found: Any, *, may_be_open: bool = False) -> None:
    if found is None:
        return
    kind = onnx.helper.tensor_dtype_to_np_dtype(found.type.tensor_type.elem_type)
    if kind != dtypes.BY_NAME[spec.dtype].numpy:
        raise ConversionFailed(f"In the exported graph {wording.name(spec.name)} is {kind}, expected {spec.dtype}.")
    if not found.type.tensor_type.HasField("shape"):
        return
    dims = found.type.tensor_type.shape.dim
    if len(dims) != len(spec.shape or ()):
        raise ConversionFailed(f"In the exported graph {wording.name(spec.name)} has rank {len(dims)}, expected {len(spec.shape or ())}.")
    for axis, (dim, wanted) in enumerate(zip(dims, spec.shape or (), strict=True)):
        fixed = dim.dim_value if dim.HasField("dim_value") else None
        if fixed is not None and fixed != wanted and not (may_be_open and isinstance(wanted, str)):
            raise ConversionFailed(
                f"In the exported graph axis {axis} of {wording.name(spec.name)} became fixed at {fixed}; it is open in the model."
                if isinstance(wanted, str)
                else f"In the exported graph axis {axis} of {wording.name(spec.name)} is {fixed}, expected {wanted}."
            )
