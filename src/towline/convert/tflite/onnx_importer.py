"""Import TensorFlow Lite files as ONNX, by tf2onnx. Runs in the environment `tensorflow`, whose own LiteRT says what is right."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from towline.convert import wording
from towline.convert.base import ConversionFailed, Converted, Task
from towline.convert.tflite.importer import checked
from towline.convert.tflite.model import TfliteModel
from towline.convert.tflite.source import TfliteSource
from towline.core.manifest import Signature

OPSET = 18
_TOOLS = ("tensorflow-cpu", "tf2onnx", "onnx")
_FILE_NAME = "model.onnx"


class TfliteOnnxImporter:
    name = "tflite-onnx"
    environment = "tensorflow"

    def load(self, task: Task) -> TfliteSource:
        model = checked(task)
        # Read when the library loads.
        os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        warnings.simplefilter("ignore")

        def convert(path: Path, into: Path, signatures: Mapping[str, Signature]) -> Converted:
            return _converted(path, into, signatures, model)

        tools = {name: importlib.metadata.version(name) for name in _TOOLS}
        return TfliteSource(task.source, model, interpret=_interpreter, ways={"tf2onnx": convert}, tools=tools)


def _interpreter(path: Path) -> Any:
    import tensorflow as tf

    return tf.lite.Interpreter(model_path=str(path), num_threads=1)


def _converted(path: Path, into: Path, signatures: Mapping[str, Signature], model: TfliteModel) -> Converted:
    if len(signatures) > 1 or any(one.graph for one in model.signatures):
        raise ConversionFailed("tf2onnx converts the first graph of a TensorFlow Lite file only, and this one has several signatures.")
    ((name, signature),) = signatures.items()
    import tf2onnx

    try:
        made, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET)
    except Exception as error:
        # Whatever it stumbles over: assertions, missing keys, its own ValueErrors.
        said = wording.sentence(f"{type(error).__name__}: {error}", hidden=(str(path), str(path.parent)))
        raise ConversionFailed(f"tf2onnx cannot convert this model: {said}") from error
    rename(made.graph, tensor_names(model), signature)
    onnx.save(made, str(into / _FILE_NAME))
    return Converted(files={name: _FILE_NAME})


def tensor_names(model: TfliteModel) -> dict[str, str]:
    """The name in its signature of each input's and output's tensor. Pure."""
    graph = model.graphs[0]
    return {graph.tensors[place].name: name for one in model.signatures for name, place in (*one.inputs.items(), *one.outputs.items())}


def rename(graph: Any, names: Mapping[str, str], signature: Signature) -> None:
    """Give a graph's inputs and outputs the names of the signature, and its open dims the signature's symbols."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    if clash := sorted(set(names.values()) & taken - names.keys()):
        raise ConversionFailed(f"A tensor inside the converted graph is called {wording.name(clash[0])} already.")
    specs = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
        if value.name not in specs:
            raise ConversionFailed(f"The converted graph has {wording.name(value.name)}, which the model does not.")
        for dim, size in zip(value.type.tensor_type.shape.dim, specs[value.name].shape or (), strict=False):
            if isinstance(size, str):
                dim.dim_param = size
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(one, one) for one in field]
