"""Give an ONNX graph the names of its source: inputs, outputs, open dims, and which tensor is the output of which layer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import onnx

from towline.core.manifest import Signature, TensorSpec

# Keras numbers the scope of a layer when it is called again.
_SUFFIXES = ("_1", "", "_2", "_3")


def keep_names(graph: onnx.GraphProto, inputs: Mapping[str, str], outputs: Sequence[tuple[str, str]], signature: Signature) -> None:
    """Rename the graph's inputs, and make its outputs those of `outputs`, in order; both map tensors of the graph to wanted names.

    One tensor may be several outputs; the dims are those of the signature.
    """
    wanted: dict[str, str] = dict(inputs)
    for tensor, name in outputs:
        wanted.setdefault(tensor, name)
    _make_room(graph, wanted)
    _rename(graph, wanted)
    declared = {value.name: value for value in graph.output}
    del graph.output[:]
    for tensor, name in outputs:
        value = onnx.ValueInfoProto()
        value.CopyFrom(declared[wanted[tensor]])
        if wanted[tensor] != name:
            value.name = name
            graph.node.append(onnx.helper.make_node("Identity", [wanted[tensor]], [name], name=f"{name}_again"))
        graph.output.append(value)
    specs = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
    for value in (*graph.input, *graph.output):
        _write_dims(value, specs[value.name])


def _make_room(graph: onnx.GraphProto, wanted: Mapping[str, str]) -> None:
    """A tensor inside the graph that already has a wanted name takes another."""
    taken = {name for one in _graphs(graph) for name in _names(one)}
    clashing = {name for old, name in wanted.items() if old != name} & (taken - wanted.keys())
    _rename(graph, {name: _fresh(name, taken) for name in sorted(clashing)})


def _fresh(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}__{number}" in taken:
        number += 1
    taken.add(f"{name}__{number}")
    return f"{name}__{number}"


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its nodes: bodies of loops and branches see the names around them."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.output:
                    yield from _graphs(inner)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        yield from node.output
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for one in _graphs(graph) if names else ():
        for node in one.node:
            for tensors in (node.input, node.output):
                for place, tensor in enumerate(tensors):
                    tensors[place] = names.get(tensor, tensor)
        for value in (*one.input, *one.output, *one.value_info, *one.initializer):
            value.name = names.get(value.name, value.name)


def _write_dims(value: Any, spec: TensorSpec) -> None:
    """The signature's dims, symbols included: what one engine calls N is N to all."""
    if spec.shape is None:
        return
    shape = value.type.tensor_type.shape
    known = [dim.dim_value for dim in shape.dim] if len(shape.dim) == len(spec.shape) else [0] * len(spec.shape)
    shape.ClearField("dim")
    value.type.tensor_type.shape.SetInParent()
    for size, already in zip(spec.shape, known, strict=True):
        dim = shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        elif already > 0:
            dim.dim_value = already
        else:
            dim.dim_param = size


def tensors_of_layers(
    operations: Sequence[tuple[str, Sequence[str]]], outputs: Mapping[str, str], tensors: Collection[str], layers: Sequence[str]
) -> dict[str, str]:
    """By layer, the tensor of an ONNX graph that is its output; a layer that was fused with its neighbours has none.

    `operations` are the source's, by name and the names of those they take from; a layer's lie in a scope: model_1/dense_1/BiasAdd.
    `outputs` maps operations to the outputs of the graph that they are, `tensors` are the names there are in the ONNX graph.
    """
    takers: dict[str, list[str]] = {}
    for name, taken in operations:
        for one in taken:
            takers.setdefault(one, []).append(name)
    found: list[dict[str, str]] = []
    for suffix in _SUFFIXES:
        marks = {layer: "/" + "".join(f"{part}{suffix}/" for part in layer.split("/")) for layer in layers}
        ends = {layer: _end(operations, takers, mark) for layer, mark in marks.items()}
        told = {layer: _shown_as(end, takers, outputs) or f"{end}:0" for layer, end in ends.items() if end}
        found.append({layer: tensor for layer, tensor in told.items() if tensor in tensors})
    return max(found, key=len, default={})


def _end(operations: Sequence[tuple[str, Sequence[str]]], takers: Mapping[str, Sequence[str]], mark: str) -> str:
    """The last operation of a scope whose answer is taken outside of it."""
    inside = [name for name, _ in operations if mark in f"/{name}"]
    return next((name for name in reversed(inside) if any(mark not in f"/{taker}" for taker in takers.get(name, ()))), "")


def _shown_as(name: str, takers: Mapping[str, Sequence[str]], outputs: Mapping[str, str]) -> str:
    """The output that an operation is, perhaps by way of identities."""
    if name in outputs:
        return outputs[name]
    further = [one for one in takers.get(name, ()) if one.rpartition("/")[2].startswith("Identity")]
    return next((shown for shown in (_shown_as(one, takers, outputs) for one in further) if shown), "")
