"""The last touches to a converted graph: names, shapes and types as the model has them, whatever the converter called them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from towline.convert.base import ConversionFailed
from towline.convert.tabular.columns import Columns
from towline.convert.tabular.outputs import Output
from towline.core.manifest import TensorSpec

_ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}


def finish(model: onnx.ModelProto, columns: Columns, outputs: Sequence[Output], *, doubles: bool) -> onnx.ModelProto:
    """Inputs and outputs are told apart by their place, which converters keep; their names they change. Raises ConversionFailed."""
    graph = model.graph
    if len(graph.input) != len(columns.specs) or len(graph.output) != len(outputs):
        raise ConversionFailed(
            f"The converter wrote {len(graph.input)} inputs and {len(graph.output)} outputs; "
            f"the model has {len(columns.specs)} and {len(outputs)}."
        )
    taken = _make_room(graph, {*(spec.name for spec in columns.specs), *(output.spec.name for output in outputs)})
    before = [node for place, spec in enumerate(columns.specs) for node in _input(graph, place, spec, taken, doubles)]
    after = [node for place, output in enumerate(outputs) for node in _output(graph, place, output.spec, taken, doubles)]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    _one_locale(graph)
    _one_opset_each(model)
    onnx.checker.check_model(model)
    return model


def round_before_trees(model: onnx.ModelProto) -> None:
    """In a graph of doubles, have its trees see values rounded to float32, and add up their votes in doubles all the same."""
    nodes: list[onnx.NodeProto] = []
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    for node in model.graph.node:
        if node.op_type.startswith("TreeEnsemble"):
            rounded, back = _free(f"{node.input[0]}_rounded", taken), _free(f"{node.input[0]}_compared", taken)
            nodes.append(helper.make_node("Cast", [node.input[0]], [rounded], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Cast", [rounded], [back], to=TensorProto.DOUBLE))
            node.input[0] = back
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _make_room(graph: onnx.GraphProto, wanted: set[str]) -> set[str]:
    """Call every tensor that bears a wanted name something else; all names that are taken then."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | {value.name for value in graph.initializer} | wanted
    for name in sorted(wanted):
        _rename(graph, name, _free(f"{name}_inner", taken))
    return taken


def _input(graph: onnx.GraphProto, place: int, spec: TensorSpec, taken: set[str], doubles: bool) -> list[onnx.NodeProto]:
    old = graph.input[place].name
    graph.input[place].CopyFrom(helper.make_tensor_value_info(spec.name, _ELEMENTS[spec.dtype], list(spec.shape or ())))
    if doubles and spec.dtype == "float32":
        return [helper.make_node("Cast", [spec.name], [old], to=TensorProto.DOUBLE)]
    _rename(graph, old, spec.name)
    return []


def _output(graph: onnx.GraphProto, place: int, spec: TensorSpec, taken: set[str], doubles: bool) -> list[onnx.NodeProto]:
    info = graph.output[place]
    value, steps, nodes = info.name, _steps(info, spec, doubles), []
    for number, (op, attributes, constant) in enumerate(steps):
        more = []
        if constant is not None:
            more = [_free(f"{spec.name}_{op}_{number}", taken)]
            graph.initializer.append(helper.make_tensor(more[0], TensorProto.INT64, [len(constant)], constant))
        result = _free(f"{spec.name}_{number}", taken)
        nodes.append(helper.make_node(op, [value, *more], [result], **attributes))
        value = result
    info.CopyFrom(helper.make_tensor_value_info(spec.name, _ELEMENTS[spec.dtype], list(spec.shape or ())))
    if nodes:
        nodes[-1].output[0] = spec.name
    else:
        _rename(graph, value, spec.name)
    return nodes


_Step = tuple[str, dict[str, Any], "list[int] | None"]


def _steps(info: onnx.ValueInfoProto, spec: TensorSpec, doubles: bool) -> list[_Step]:
    """From what the converter writes to what the model answers."""
    tensor = info.type.tensor_type
    rank, wanted = len(tensor.shape.dim), len(spec.shape or ())
    steps: list[_Step] = []
    if info.type.HasField("sequence_type"):
        # An array per label, of [N, classes]; the model's are [N, labels, classes].
        steps.append(("ConcatFromSequence", {"axis": 1, "new_axis": 1}, None))
    elif rank == 3 and wanted == 3:
        steps.append(("Transpose", {"perm": [1, 0, 2]}, None))
    elif rank == 2 and wanted == 1:
        # One column, or the scores of two classes, of which the model tells the second's.
        steps += [("Gather", {"axis": 1}, [-1]), ("Squeeze", {}, [1])]
    elif rank == 1 and wanted == 2:
        steps.append(("Unsqueeze", {}, [1]))
    element = _ELEMENTS[spec.dtype]
    # Of a graph in doubles it is not always told truly which tensors are.
    if spec.dtype != "string" and (doubles or (rank and tensor.elem_type != element)):
        steps.append(("Cast", {"to": element}, None))
    return steps


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        if value.name == old:
            value.name = new


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _one_locale(graph: onnx.GraphProto) -> None:
    """Letters are made small by the rules of a locale that every Linux has; the converter asks for one that many servers lack."""
    for node in graph.node:
        if node.op_type == "StringNormalizer":
            kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("locale", "C.UTF-8")])


def _one_opset_each(model: onnx.ModelProto) -> None:
    """Converters that call one another list a domain twice."""
    latest: dict[str, int] = {}
    for opset in model.opset_import:
        latest[opset.domain] = max(latest.get(opset.domain, 0), opset.version)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in latest.items())
