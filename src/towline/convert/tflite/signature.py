"""The signatures of a .tflite file in our words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from towline.convert import wording
from towline.convert.declared_inputs import BATCH
from towline.convert.signature import MAX_NAME_BYTES
from towline.convert.tflite.model import Graph, Tensor, TfliteModel
from towline.core import dtypes
from towline.core.errors import ImportRefused
from towline.core.frames import MAX_TENSORS
from towline.core.manifest import DEFAULT_SIGNATURE, Signature, TensorSpec


def signatures(model: TfliteModel) -> dict[str, Signature]:
    """By name. A file without any has one, whose names are those of its tensors. Raises ImportRefused by the tensor's name."""
    if not model.signatures:
        graph = model.graphs[0]
        return {DEFAULT_SIGNATURE: _signature(graph, _by_name(graph, graph.inputs), _by_name(graph, graph.outputs))}
    found = {}
    for one in model.signatures:
        if not _is_name(one.key):
            raise ImportRefused(f"Signature {wording.name(one.key)} has no name that can be printed.", code="BAD_TENSOR_NAME")
        found[one.key] = _signature(model.graphs[one.graph], one.inputs, one.outputs)
    return found


def quantised(model: TfliteModel) -> list[str]:
    """A sentence for each input and output that stands for real numbers: how to come by them."""
    graph_of = [(model.graphs[one.graph], {**one.inputs, **one.outputs}) for one in model.signatures] or [
        (model.graphs[0], _by_name(model.graphs[0], (*model.graphs[0].inputs, *model.graphs[0].outputs)))
    ]
    told = {}
    for graph, places in graph_of:
        for name, place in places.items():
            tensor = graph.tensors[place]
            if tensor.scale is not None and "int" in tensor.dtype:
                real = _real(tensor.scale, tensor.zero_point)
                told[name] = f"{wording.name(name)} is {tensor.dtype}: a value q means {real}."
    return list(told.values())


def _real(scale: float, zero_point: int) -> str:
    if not zero_point:
        return f"{scale:.9g} * q"
    return f"{scale:.9g} * (q {'-' if zero_point > 0 else '+'} {abs(zero_point)})"


def _by_name(graph: Graph, places: tuple[int, ...]) -> dict[str, int]:
    names = {graph.tensors[place].name: place for place in places}
    if len(names) != len(set(places)):
        raise ImportRefused(
            "Two of the model's inputs or outputs have one name, and it has no signature that tells them apart.",
            code="BAD_TENSOR_NAME",
            hint="Convert it again with signatures: from a SavedModel or a Keras model.",
        )
    return names


def _signature(graph: Graph, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Signature:
    for what, named in (("inputs", inputs), ("outputs", outputs)):
        if len(named) > MAX_TENSORS or (what == "outputs" and not named):
            raise ImportRefused(f"The model has {len(named)} {what}; 1 to {MAX_TENSORS} are taken.", code="LIMIT_EXCEEDED")
    return Signature(
        inputs=tuple(_spec(name, graph.tensors[place], "input") for name, place in inputs.items()),
        outputs=tuple(_spec(name, graph.tensors[place], "output") for name, place in outputs.items()),
    )


def _spec(name: str, tensor: Tensor, role: str) -> TensorSpec:
    if not _is_name(name):
        raise ImportRefused(
            f"The name of {role} {wording.name(name)} is empty, too long or not printable: expected 1-{MAX_NAME_BYTES} bytes of text.",
            code="BAD_TENSOR_NAME",
            field=role,
            hint="Rename it when exporting.",
        )
    if tensor.dtype not in dtypes.BY_NAME:
        raise ImportRefused(
            f"The model's {role} {wording.name(name)} is {tensor.dtype}, which no request can carry.",
            code="UNSUPPORTED_TYPE",
            field=role,
            hint=f"Cast it inside the model when exporting. Carried: {', '.join(dtype.name for dtype in dtypes.ALL)}.",
        )
    symbols = (BATCH if axis == 0 else f"{name}_{axis}"[-64:] for axis in range(len(tensor.shape)))
    return TensorSpec(name, tensor.dtype, tuple(symbol if size < 0 else size for size, symbol in zip(tensor.shape, symbols, strict=True)))


def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable() and len(text.encode("utf-8", "replace")) <= MAX_NAME_BYTES
