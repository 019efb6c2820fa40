"""Open a SavedModel: one meta graph is chosen, looked through and loaded; every signature becomes a program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.protobuf import saved_model_pb2

from towline.convert import wording
from towline.convert.base import Task
from towline.convert.tensorflow.examples import behind_parsers
from towline.convert.tensorflow.guard import check_saved_model
from towline.convert.tensorflow.program import FAILURES, Program, loaded_program, own_inputs, program_of, without_memory
from towline.convert.tensorflow.saved_model_route import copy_saved_model
from towline.convert.tensorflow.source import TensorFlowSource
from towline.core.errors import ImportRefused
from towline.core.manifest import DEFAULT_SIGNATURE

# TensorFlow's own for loading and training; nobody calls them by name.
_INTERNAL = ("__saved_model_init_op", "__saved_model_train_op")
_TAG = "serve"


def open_saved_model(task: Task) -> TensorFlowSource:
    """Raises ImportRefused for what is damaged, holds operations that are not allowed, or has nothing to call."""
    folder = task.source if task.source.is_dir() else task.source.parent
    meta_graph = choose(read_saved_model(folder), task.options.get("tags", ""))
    check_saved_model(meta_graph, folder)
    without_training(meta_graph)
    tags = sorted(meta_graph.meta_info_def.tags)
    alone = _alone(folder, meta_graph, task.scratch / "alone")
    try:
        loaded = tf.saved_model.load(str(alone), tags=tags)
    except FAILURES as error:
        said = wording.sentence(f"{error}".partition("\n")[0], hidden=(f"{alone}/", str(alone), f"{folder}/", str(folder)))
        raise ImportRefused(
            f"TensorFlow cannot load this SavedModel: {said}",
            code="TORN_FILE",
            hint="Copy its whole folder again, with 'variables' and 'assets'.",
        ) from error
    programs, parsed = behind_parsers(_programs(loaded))
    programs, notes = without_memory(programs)
    notes = (*parsed, *notes)
    if tags != [_TAG]:
        notes = (f"Tags: {', '.join(tags) or 'none'}.", *notes)
    return TensorFlowSource(
        programs,
        parameters=parameters_of(programs, getattr(loaded, "variables", ())),
        facts={"saved_by": f"TensorFlow {meta_graph.meta_info_def.tensorflow_version or 'unknown'}"[:64]},
        notes=notes,
        # Without signatures there is nothing in it that a client could name.
        original=alone if all(program.keywords for program in programs.values()) else None,
        holds=loaded,
    )


def read_saved_model(folder: Path) -> Any:
    """The message of `saved_model.pb`."""
    try:
        return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except OSError:
        raise ImportRefused("The folder holds no saved_model.pb that can be read.", code="NO_MODEL_FILE") from None
    except (DecodeError, RecursionError):
        raise ImportRefused(
            "The SavedModel is damaged: saved_model.pb is no valid protobuf.", code="TORN_FILE", hint="Copy or export it again."
        ) from None


def choose(saved_model: Any, asked: str) -> Any:
    """The meta graph with the tags that are asked for, else that for serving, else the only one."""
    graphs = list(saved_model.meta_graphs)
    wanted = sorted(filter(None, (tag.strip() for tag in asked.split(",")))) if asked else [_TAG]
    found = [graph for graph in graphs if sorted(graph.meta_info_def.tags) == wanted]
    if not found and not asked and len(graphs) == 1:
        return graphs[0]
    if not found:
        there = "; ".join(",".join(sorted(graph.meta_info_def.tags)) or "(none)" for graph in graphs) or "none at all"
        raise ImportRefused(
            f"The SavedModel has no graph tagged {','.join(wanted)}; there is: {wording.sentence(there)}.",
            code="NO_SUCH_TAGS",
            field="tags",
            hint="Choose one: --option tags=TAG,TAG",
        )
    return found[0]


def without_training(meta_graph: Any) -> None:
    """Take out which values an optimizer keeps beside the variables: only the Keras that saved them could put them back."""
    for node in meta_graph.object_graph_def.nodes:
        node.ClearField("slot_variables")


def _alone(folder: Path, meta_graph: Any, place: Path) -> Path:
    """A copy with the one graph that was looked through, and the source's variables and assets."""
    copy_saved_model(folder, place)
    chosen = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[meta_graph])
    (place / "saved_model.pb").write_bytes(chosen.SerializeToString(deterministic=True))
    return place


def _programs(loaded: Any) -> dict[str, Program]:
    signatures = getattr(loaded, "signatures", {})
    programs = {name: loaded_program(signatures[name]) for name in sorted(signatures) if name not in _INTERNAL and signatures[name].outputs}
    if not programs:
        programs = _only_function(loaded)
    if not programs:
        raise ImportRefused(
            "The SavedModel has no signature and no function that takes tensors only.",
            code="NO_SIGNATURE",
            hint="Save it with one: tf.saved_model.save(model, folder, signatures={'serving_default': function.get_concrete_function(…)})",
        )
    return programs


def _only_function(loaded: Any) -> dict[str, Program]:
    """The first graph of `serve` or of the object called itself, whose outputs are a tensor, or tensors by name or in order."""
    for attribute in ("serve", "__call__"):
        for function in getattr(getattr(loaded, attribute, None), "concrete_functions", ()):
            args, kwargs = function.structured_input_signature
            tensors = tf.nest.flatten((args, kwargs))
            given = own_inputs(function)
            if len(given) == sum(isinstance(tensor, tf.TensorSpec) for tensor in tensors) > 0:
                names = [tensor.name.partition(":")[0] for tensor in given]
                return {DEFAULT_SIGNATURE: program_of(function, names, output_names(function.structured_outputs))}
    return {}


def output_names(outputs: Any) -> list[str]:
    """Of what a function gives: the keys of a dict, else numbered."""
    if isinstance(outputs, dict):
        return sorted(outputs)
    return [f"output_{place}" for place in range(len(tf.nest.flatten(outputs)))]


def parameters_of(programs: Mapping[str, Program], variables: Iterable[Any] = ()) -> int:
    """Numbers in the variables and constants that the programs hold, each counted once; `variables` are those they do not tell of."""
    sizes: dict[Any, int] = {_key(variable): int(variable.shape.num_elements() or 0) for variable in variables}
    for program in programs.values():
        for variable in program.function.graph.variables:
            sizes[_key(variable)] = int(variable.shape.num_elements() or 0)
        for node in program.function.graph.get_operations():
            if node.type == "Const" and node.outputs[0].dtype.is_floating:
                sizes[id(node)] = int(node.outputs[0].shape.num_elements() or 0)
    return sum(sizes.values())


def _key(variable: Any) -> int:
    return id(getattr(variable, "handle", variable))
