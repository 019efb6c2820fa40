"""Open a checkpoint of TensorFlow 1: its graph from `.meta`, cut down to what answers, with the variables' values from the files beside it.

Nothing that the file itself brings for restoring is run: values are read by name and assigned by nodes of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.framework import variable_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from towline.convert import wording
from towline.convert.base import Task
from towline.convert.tensorflow.graph import asked_nodes, found_inputs, found_outputs, plain, program_between, program_for
from towline.convert.tensorflow.guard import check_graph
from towline.convert.tensorflow.program import FAILURES, Program
from towline.convert.tensorflow.saved_model import parameters_of
from towline.convert.tensorflow.source import TensorFlowSource
from towline.core.errors import ImportRefused
from towline.core.manifest import DEFAULT_SIGNATURE

_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
# What trains, initialises and saves stands beside what answers and uses it.
_TRAINS = ("Apply", "ResourceApply", "SparseApply", "ResourceSparseApply", "Assign", "Save", "Restore", "MergeV2Checkpoints", "VarIsInit")
_TRAINING_SCOPES = ("gradients/", "save/")
_ABOUT_SHAPES = ("Shape", "ShapeN", "Size", "Rank")


def open_session_checkpoint(task: Task) -> TensorFlowSource:
    """`task.source` is the checkpoint's prefix. Raises ImportRefused for what is damaged, incomplete, or does not tell what it answers."""
    meta_graph = _read(task.source.with_name(f"{task.source.name}.meta"))
    wanted = _wanted(meta_graph, task.options)
    graph = tf.compat.v1.graph_util.extract_sub_graph(meta_graph.graph_def, sorted({_node(tensor) for tensor in wanted}))
    check_graph(graph)
    _add_reads(graph)
    frozen = _frozen(graph, _values(graph, meta_graph, task.source), wanted)
    if meta_graph.signature_def and "outputs" not in task.options:
        return _source(_signatures(meta_graph, frozen))
    program, _ = program_between(frozen, {**task.options, "outputs": ",".join(wanted)})
    names = f"inputs {', '.join(program.inputs)}; outputs {', '.join(program.outputs)}"
    return _source({DEFAULT_SIGNATURE: program}, () if "outputs" in task.options else (f"The graph's ends were found: {names}.",))


def _source(programs: Mapping[str, Program], notes: tuple[str, ...] = ()) -> TensorFlowSource:
    return TensorFlowSource(programs, parameters=parameters_of(programs), notes=notes)


def _read(path: Path) -> Any:
    try:
        return meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())
    except OSError:
        raise ImportRefused("The checkpoint's .meta file, which holds its graph, cannot be read.", code="NO_MODEL_FILE") from None
    except (DecodeError, RecursionError):
        raise ImportRefused("The checkpoint's .meta file is no valid protobuf.", code="TORN_FILE", hint="Copy it again.") from None


def _wanted(meta_graph: Any, options: Mapping[str, str]) -> list[str]:
    """The tensors that are answers: asked for, named by signatures, or what nothing but training uses."""
    graph = meta_graph.graph_def
    asked = asked_nodes(options, "outputs", graph)
    if asked:
        return asked
    named = [tensor.name for signature in meta_graph.signature_def.values() for tensor in signature.outputs.values()]
    if named:
        return list(dict.fromkeys(named))
    ends = _ends(graph)
    if len(ends) == 1:
        return ends
    found = ", ".join(map(wording.name, ends[:8])) or "none"
    raise ImportRefused(
        f"The checkpoint's graph does not tell which node is its answer. Candidates: {found}.",
        code="NO_OUTPUTS",
        field="outputs",
        hint="Name it: --option outputs=NAME (and inputs=NAME,NAME where it needs other ones than it has placeholders).",
    )


def _ends(graph: Any) -> list[str]:
    """Nodes that answer: nothing that answers uses them, they depend on an input, and they are no single number, as a loss is."""
    without = type(graph)()
    without.CopyFrom(graph)
    del without.node[:]
    without.node.extend(node for node in graph.node if not node.op.startswith(_TRAINS) and not node.name.startswith(_TRAINING_SCOPES))
    ends = [name for name in found_outputs(without) if any(True for _ in found_inputs(without, [name]))]
    answers = [name for name, rank in _ranks(graph, ends).items() if rank != 0]
    return answers or ends


def _ranks(graph: Any, names: Sequence[str]) -> dict[str, int | None]:
    """By node, the rank of its first output as far as the graph tells; what only tells about shapes counts as a single number."""
    cut = tf.compat.v1.graph_util.extract_sub_graph(graph, list(names))
    with tf.Graph().as_default() as live:
        try:
            tf.graph_util.import_graph_def(cut, name="")
        except FAILURES:
            return dict.fromkeys(names)
        nodes = {name: live.get_operation_by_name(name) for name in names}
        return {name: 0 if node.type in _ABOUT_SHAPES else node.outputs[0].shape.rank for name, node in nodes.items() if node.outputs}


def _values(graph: Any, meta_graph: Any, prefix: Path) -> dict[str, np.ndarray]:
    """By node: the value of every variable that answering needs."""
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        declared = {_node(one.variable_name): one for one in _declared(meta_graph)}
        return {node.name: _value(reader, node, declared.get(node.name)) for node in graph.node if node.op in _VARIABLES}
    except FAILURES as error:
        said = wording.sentence(str(error).partition("\n")[0], hidden=(str(prefix), str(prefix.parent)))
        raise ImportRefused(
            f"The checkpoint's values cannot be read: {said}",
            code="TORN_FILE",
            hint="Copy .index and every .data file again, beside .meta.",
        ) from error


def _declared(meta_graph: Any) -> Iterable[Any]:
    for key in ("variables", "trainable_variables", "model_variables"):
        if key in meta_graph.collection_def:
            yield from (variable_pb2.VariableDef.FromString(raw) for raw in meta_graph.collection_def[key].bytes_list.value)


def _value(reader: Any, node: Any, declared: Any) -> np.ndarray:
    whole = declared.save_slice_info_def if declared is not None and declared.HasField("save_slice_info_def") else None
    name = whole.full_name if whole is not None else node.attr["shared_name"].s.decode() or node.name
    if not reader.has_tensor(name):
        raise ImportRefused(
            f"The checkpoint has no value for variable {wording.name(name)}.",
            code="MISSING_WEIGHTS",
            field="variables",
            hint="Copy it again.",
        )
    value = np.asarray(reader.get_tensor(name))
    if whole is None:
        return value
    # A part of a variable that was kept in parts.
    return value[tuple(slice(start, start + size) for start, size in zip(whole.var_offset, whole.var_shape, strict=True))]


def _frozen(graph: Any, values: Mapping[str, np.ndarray], wanted: Iterable[str]) -> Any:
    """The graph with constants in place of its variables."""
    with tf.Graph().as_default() as live, tf.compat.v1.Session(graph=live) as session:
        try:
            tf.graph_util.import_graph_def(graph, name="")
            for name, value in values.items():
                variable = live.get_tensor_by_name(f"{name}:0")
                given = tf.compat.v1.placeholder(value.dtype, value.shape)
                if variable.dtype == tf.resource:
                    assign = tf.raw_ops.AssignVariableOp(resource=variable, value=given)
                else:
                    assign = tf.raw_ops.Assign(ref=variable, value=given, validate_shape=False).op
                session.run(assign, {given: value})
            nodes = sorted({_node(tensor) for tensor in wanted})
            return tf.compat.v1.graph_util.convert_variables_to_constants(session, graph, nodes)
        except FAILURES as error:
            said = wording.sentence(str(error).partition("\n")[0])
            raise ImportRefused(
                f"TensorFlow cannot restore this checkpoint: {said}", code="INVALID_GRAPH", hint="Copy it again."
            ) from error


def _add_reads(graph: Any) -> None:
    """The nodes by which TensorFlow's freezing looks at variables that are resources, where cutting took them away."""
    there = {node.name for node in graph.node}
    for node in [node for node in graph.node if node.op == "VarHandleOp" and f"{node.name}/Read/ReadVariableOp" not in there]:
        read = graph.node.add(name=f"{node.name}/Read/ReadVariableOp", op="ReadVariableOp", input=[node.name])
        read.attr["dtype"].CopyFrom(node.attr["dtype"])


def _signatures(meta_graph: Any, graph: Any) -> dict[str, Program]:
    return {
        name: program_for(
            graph,
            {key: signature.inputs[key].name for key in sorted(signature.inputs)},
            {key: signature.outputs[key].name for key in sorted(signature.outputs)},
        )
        for name, signature in meta_graph.signature_def.items()
    }


def _node(tensor: str) -> str:
    return plain(tensor).partition(":")[0]
