"""Convert programs to ONNX by tf2onnx, one file per signature, cleaned by onnxslim; the source's own names are kept."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxslim
import tensorflow as tf
import tf2onnx
import tf2onnx.tf_loader

from towline.convert import wording
from towline.convert.base import ConversionFailed, Converted
from towline.convert.tensorflow.onnx_names import keep_names, tensors_of_layers
from towline.convert.tensorflow.program import FAILURES, Program, own_inputs
from towline.convert.tensorflow.saved_model_route import named_function
from towline.core.manifest import DEFAULT_SIGNATURE

OPSET = 18
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
# A protobuf holds 2 GiB; what is larger is served by TensorFlow itself.
MAX_BYTES = (2 << 30) - (64 << 20)


def convert(programs: Mapping[str, Program], into: Path, *, layers: Sequence[str] = ()) -> Converted:
    """Raises ConversionFailed with tf2onnx's words."""
    found: dict[str, str] = {}
    files = {}
    for place, (name, program) in enumerate(sorted(programs.items(), key=lambda one: (one[0] != DEFAULT_SIGNATURE, one[0]))):
        files[name] = f"model-{place + 1}.onnx" if place else "model.onnx"
        model = _converted(program)
        if not place and layers:
            found = _layers(program, model.graph, layers)
        onnx.save(model, str(into / files[name]))
    return Converted(files, layers=found)


def _converted(program: Program) -> onnx.ModelProto:
    shared = program.inputs.keys() & program.outputs.keys()
    if shared:
        raise ConversionFailed(f"Input and output are both called {wording.name(min(shared))}, which ONNX does not allow.")
    if sum(variable.shape.num_elements() * variable.dtype.size for variable in program.function.graph.variables) > MAX_BYTES:
        raise ConversionFailed("The model's weights are too large for one ONNX file.")
    function = _alone(program)
    inputs = [tensor.name for tensor in own_inputs(function)]
    outputs = [tensor.name for tensor in function.outputs]
    try:
        model = _tf2onnx(function, inputs, outputs)
    except FAILURES as error:
        raise ConversionFailed(f"tf2onnx cannot convert this model: {wording.sentence(_last_line(error))}") from error
    keep_names(
        model.graph, dict(zip(inputs, program.inputs, strict=True)), list(zip(outputs, program.outputs, strict=True)), program.signature
    )
    return cleaned(model)


def _layers(program: Program, graph: onnx.GraphProto, layers: Sequence[str]) -> dict[str, str]:
    operations = [(one.name, [tensor.op.name for tensor in one.inputs]) for one in program.function.graph.get_operations()]
    outputs = {tensor.op.name: name for name, tensor in zip(program.outputs, program.function.outputs, strict=True)}
    return tensors_of_layers(operations, outputs, {tensor for node in graph.node for tensor in node.output}, layers)


def _alone(program: Program) -> Any:
    """The program's function, or one around it where it holds on to tables: tf2onnx takes those away, and it is to answer again."""
    graph = program.function.graph
    handles = {id(variable.handle) for variable in graph.variables if hasattr(variable, "handle")}
    if all(tensor.dtype != tf.resource or id(tensor) in handles for tensor in graph.external_captures):
        return program.function
    return named_function(program)


def convert_by_keras(model: Any, programs: Mapping[str, Program], into: Path) -> Converted:
    """By Keras' own export, which traces the model anew. Raises ConversionFailed."""
    import keras

    program = programs[DEFAULT_SIGNATURE]
    path = into / "exported.onnx"
    specs = [keras.InputSpec(shape=spec.shape, dtype=spec.dtype.name, name=name) for name, spec in program.inputs.items()]
    structure = getattr(model, "_inputs_struct", None)
    given = specs if structure is None else [keras.tree.pack_sequence_as(structure, specs)]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            model.export(str(path), format="onnx", verbose=False, input_signature=given, opset_version=OPSET)
        exported = onnx.load(str(path))
    except FAILURES as error:
        raise ConversionFailed(f"Keras cannot export this model: {wording.sentence(_last_line(error))}") from error
    path.unlink()
    inputs = [value.name for value in exported.graph.input]
    outputs = [value.name for value in exported.graph.output]
    if len(inputs) != len(program.inputs) or len(outputs) != len(program.outputs):
        raise ConversionFailed("Keras exported other inputs or outputs than the model has.")
    keep_names(
        exported.graph, dict(zip(inputs, program.inputs, strict=True)), list(zip(outputs, program.outputs, strict=True)), program.signature
    )
    onnx.save(cleaned(exported), str(into / "model.onnx"))
    return Converted({DEFAULT_SIGNATURE: "model.onnx"})


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _tf2onnx(function: Any, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """What tf2onnx's own command does with one signature. Private functions: the version is pinned and a test goes through here."""
    # Tables are found among the resources that a function captured.
    unique = list(dict.fromkeys(outputs))
    with tf.device("/cpu:0"):
        frozen, tables = tf2onnx.tf_loader.from_trackable(None, function, inputs, unique, False)
        model: onnx.ModelProto = tf2onnx.convert._convert_common(
            frozen,
            name="model",
            continue_on_error=False,
            opset=OPSET,
            input_names=inputs,
            output_names=unique,
            initialized_tables=tables,
        )[0]
    return model


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constants folded and what does nothing removed; the model as it was where onnxslim cannot. Raises ConversionFailed for no ONNX."""
    foreign = sorted({node.domain for node in model.graph.node} - _DOMAINS)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ConversionFailed(f"What came out is no valid ONNX: {wording.sentence(_first_line(error))}") from error
    if foreign:
        raise ConversionFailed(f"It needs operators of {wording.name(foreign[0])}, which ONNX Runtime does not have.")
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    try:
        slim = onnxslim.slim(model)
        onnx.checker.check_model(slim)
    except (*FAILURES, onnx.checker.ValidationError):
        return model
    return slim if [value.name for value in (*slim.graph.input, *slim.graph.output)] == names else model


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
