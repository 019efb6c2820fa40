"""Open a frozen graph (`.pb`): find its inputs and outputs, and make a program of what lies between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.framework import graph_pb2

from towline.convert import wording
from towline.convert.base import Task
from towline.convert.tensorflow.guard import check_graph
from towline.convert.tensorflow.program import FAILURES, Program, program_of
from towline.convert.tensorflow.saved_model import parameters_of
from towline.convert.tensorflow.source import TensorFlowSource
from towline.convert.tensorflow.specs import unique
from towline.core.errors import ImportRefused
from towline.core.manifest import DEFAULT_SIGNATURE

_INPUTS = ("Placeholder", "PlaceholderV2")
# The ends of a graph that are no answer.
_NO_OUTPUTS = {"NoOp", "Const", "Assert", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "MergeSummary", "ScalarSummary"}
_NO_OUTPUTS |= {"HistogramSummary", "ImageSummary", "AudioSummary", "AudioSummaryV2", "TensorSummary", "TensorSummaryV2"}


def open_graph(task: Task) -> TensorFlowSource:
    """Raises ImportRefused for what is damaged, holds variables without values, or has no inputs or outputs that can be found."""
    graph = read_graph(task)
    variables = [node.name for node in graph.node if node.op in ("VariableV2", "VarHandleOp", "Variable")]
    if variables:
        raise ImportRefused(
            f"The graph is not frozen: variable {wording.name(variables[0])} has no value in this file.",
            code="NOT_FROZEN",
            hint="Import the checkpoint (model.ckpt.meta beside its .index and .data) or the SavedModel.",
        )
    program, notes = program_between(graph, task.options)
    return TensorFlowSource({DEFAULT_SIGNATURE: program}, parameters=parameters_of({"": program}), notes=notes)


def read_graph(task: Task) -> Any:
    try:
        graph = graph_pb2.GraphDef.FromString(task.source.read_bytes())
    except (DecodeError, RecursionError):
        raise ImportRefused("The graph is damaged: it is no valid protobuf.", code="TORN_FILE", hint="Copy or export it again.") from None
    check_graph(graph)
    return graph


def program_between(graph: Any, options: Mapping[str, str]) -> tuple[Program, tuple[str, ...]]:
    """The program from a graph's inputs to its outputs, and what was assumed of them; the options `inputs` and `outputs` name them."""
    outputs = asked_nodes(options, "outputs", graph) or list(found_outputs(graph))
    if not outputs:
        raise ImportRefused("The graph has no output.", code="NO_OUTPUTS", hint="Name it: --option outputs=NAME,NAME")
    inputs = asked_nodes(options, "inputs", graph) or list(found_inputs(graph, outputs))
    if not inputs:
        raise ImportRefused("The graph has no input: none of its outputs depends on a placeholder.", code="NO_INPUTS")
    notes = () if "outputs" in options else (f"Outputs were found as what nothing else uses: {', '.join(map(plain, outputs))}.",)
    return program_for(graph, _by_name(inputs), _by_name(outputs)), notes


def program_for(graph: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Program:
    """The program between tensors of a graph without variables; both map names to tensors."""
    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
        feeds, fetches = ([_tensor(wrapped.graph, tensor) for tensor in tensors.values()] for tensors in (inputs, outputs))
        function = wrapped.prune(feeds, fetches)
    except FAILURES as error:
        said = wording.sentence(str(error).partition("\n")[0])
        raise ImportRefused(f"TensorFlow cannot read this graph: {said}", code="INVALID_GRAPH", hint="Export it again.") from error
    return program_of(function, list(inputs), list(outputs))


def _by_name(tensors: Sequence[str]) -> dict[str, str]:
    return dict(zip(unique(map(plain, tensors)), tensors, strict=True))


def asked_nodes(options: Mapping[str, str], which: str, graph: Any) -> list[str]:
    """The nodes or tensors that an option names; none where it is not given."""
    names = list(filter(None, (name.strip() for name in options.get(which, "").split(","))))
    there = {node.name for node in graph.node}
    for name in names:
        if name.partition(":")[0] not in there:
            ends = ", ".join(map(wording.name, list(found_outputs(graph))[:5]))
            raise ImportRefused(
                f"The graph has no node {wording.name(name)}.", code="NO_SUCH_NODE", field=which, hint=f"Its last nodes are: {ends}."
            )
    return names


def found_inputs(graph: Any, outputs: Sequence[str]) -> Iterator[str]:
    """Placeholders that the outputs depend on."""
    nodes = {node.name: node for node in graph.node}
    needed: set[str] = set()
    waiting = [name.partition(":")[0] for name in outputs]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in needed:
            needed.add(name)
            waiting.extend(given.removeprefix("^").partition(":")[0] for given in nodes[name].input)
    return (node.name for node in graph.node if node.op in _INPUTS and node.name in needed)


def found_outputs(graph: Any) -> Iterator[str]:
    """Nodes that compute and whose answer no other node takes."""
    used = {given.partition(":")[0] for node in graph.node for given in node.input if not given.startswith("^")}
    return (node.name for node in graph.node if node.name not in used and node.op not in _NO_OUTPUTS)


def plain(name: str) -> str:
    """The name of a tensor without the `:0` that says the first output."""
    return name.removesuffix(":0")


def _tensor(graph: Any, name: str) -> Any:
    return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
