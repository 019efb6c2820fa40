"""Open a Keras model, `.keras` or `.h5` of Keras 2 and 3: judged by its description first, then loaded without compiling it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras as framework
import tensorflow as tf

from towline.convert import wording
from towline.convert.base import Task
from towline.convert.tensorflow import keras_file
from towline.convert.tensorflow.keras_config import Judged, judge
from towline.convert.tensorflow.layers import call_flat
from towline.convert.tensorflow.program import FAILURES, Program, program_of, without_memory
from towline.convert.tensorflow.source import TensorFlowSource
from towline.convert.tensorflow.specs import unique
from towline.core.errors import ImportRefused
from towline.core.manifest import DEFAULT_SIGNATURE

_NAMESPACES = ("layers", "models", "initializers", "regularizers", "constraints", "dtype_policies", "ops")


def open_keras(task: Task) -> TensorFlowSource:
    """Raises ImportRefused for what is damaged, is weights only, or would run code that nobody vouched for."""
    is_archive = task.kind == "keras"
    config = keras_file.config_of_archive(task.source) if is_archive else keras_file.config_of_hdf5(task.source)
    if config is None:
        raise ImportRefused(
            "The HDF5 file holds weights only, without the model that they belong to.",
            code="WEIGHTS_ONLY",
            hint=f"Give the code that builds the model: towline import {wording.sentence(task.source.name)} --arch file.py:function",
        )
    judged = judge(config, is_kerass, trusted=task.trusted)
    path = task.source if judged.config == config else _rewritten(task, judged, is_archive)
    try:
        model = framework.saving.load_model(path, compile=False, safe_mode=not task.trusted)
    except FAILURES as error:
        said = wording.sentence(_reason(error), hidden=(str(path), str(path.parent)))
        raise ImportRefused(
            f"Keras cannot load this file: {said}", code="UNREADABLE_MODEL", hint="Save it again with the Keras that made it, as .keras."
        ) from error
    return keras_source(model, notes=judged.notes, facts={"architecture": str(config["class_name"])[:64]})


def keras_source(model: Any, *, notes: tuple[str, ...] = (), facts: Mapping[str, str] | None = None) -> TensorFlowSource:
    """A Keras model in inference mode, under the names of its inputs and of the layers that give its outputs."""
    stateful = [
        layer.name for layer in model._flatten_layers() if getattr(layer, "stateful", False) and isinstance(layer, framework.layers.RNN)
    ]
    if stateful:
        raise ImportRefused(
            f"Layer {wording.name(stateful[0])} keeps its state between calls (stateful=True): an answer depends on who asked before.",
            code="STATEFUL_MODEL",
            field=stateful[0],
            hint="Build it with stateful=False, the state as inputs (initial_state) and outputs (return_state=True).",
        )
    programs, _ = without_memory({DEFAULT_SIGNATURE: keras_program(model)})
    return TensorFlowSource(
        programs,
        parameters=int(model.count_params()),
        facts=facts or {},
        notes=notes,
        model=model,
        holds=model,
    )


def keras_program(model: Any) -> Program:
    if not getattr(model, "inputs", None):
        raise ImportRefused(
            "The model does not tell the shape of its input: it was saved before it was built.",
            code="NOT_BUILT",
            hint="Call it once, or give it an Input layer, before saving it.",
        )
    inputs = unique(tensor.name for tensor in model.inputs)
    outputs = unique(_output_names(model))

    def answer(*tensors: Any) -> tuple[Any, ...]:
        # An Identity each: two outputs may be one tensor, and an output an input.
        return tuple(tf.identity(tensor) for tensor in framework.tree.flatten(call_flat(model, tensors)))

    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=f"input_{place}" if not name.isidentifier() else name)
        for place, (name, tensor) in enumerate(zip(inputs, model.inputs, strict=True))
    ]
    try:
        function = tf.function(answer, autograph=False).get_concrete_function(*specs)
    except FAILURES as error:
        raise ImportRefused(f"Keras cannot run this model: {wording.sentence(_reason(error))}", code="UNREADABLE_MODEL") from error
    return program_of(function, inputs, outputs)


def _output_names(model: Any) -> list[str]:
    """What Keras calls its outputs: the layers that give them."""
    names = getattr(model, "output_names", None)
    if names and len(names) == len(model.outputs):
        return [str(name) for name in names]
    return [tensor._keras_history.operation.name for tensor in model.outputs]


def is_kerass(namespace: str, name: str) -> bool:
    """Whether Keras has a public layer, model, initializer, … of this name; functions only where activations are asked for."""
    if namespace == "activations":
        return inspect.isfunction(getattr(framework.activations, name, None)) and name not in ("get", "serialize", "deserialize")
    if namespace == "keras":
        return name in ("Sequential", "Functional", "DTypePolicy", "Variable")
    if namespace == "models" or (not namespace and name in ("Sequential", "Functional", "Model")):
        return name in ("Sequential", "Functional", "Model")
    if namespace == "ops":
        return inspect.isclass(_operation(name))
    if not namespace:
        return name == "Policy" or any(inspect.isclass(getattr(getattr(framework, one), name, None)) for one in _NAMESPACES[:-1])
    return namespace in _NAMESPACES and inspect.isclass(getattr(getattr(framework, namespace), name, None))


def _operation(name: str) -> Any:
    """The class behind an operation of `keras.ops`, as a functional model holds it; those that take code are not among them."""
    if name in (
        "Map",
        "Scan",
        "AssociativeScan",
        "WhileLoop",
        "ForiLoop",
        "VectorizedMap",
        "Vectorize",
        "Cond",
        "Switch",
        "CustomGradient",
    ):
        return None
    from keras.src.ops import core, image, linalg, math, nn, numpy

    found = next((getattr(module, name) for module in (numpy, nn, math, core, image, linalg) if hasattr(module, name)), None)
    return found if inspect.isclass(found) and issubclass(found, framework.Operation) else None


def _rewritten(task: Task, judged: Judged, is_archive: bool) -> Path:
    if is_archive and judged.stripped:
        raise ImportRefused(
            "The .keras file still has wrappers of the Model Optimization Toolkit.",
            code="STILL_WRAPPED",
            hint="Save it as .h5 where it was made, or take them off: tfmot.sparsity.keras.strip_pruning(model).save('model.keras')",
        )
    path = task.scratch / ("rewritten.keras" if is_archive else "rewritten.h5")
    if is_archive:
        keras_file.rewrite_archive(task.source, judged.config, path)
    else:
        keras_file.rewrite_hdf5(task.source, judged.config, judged.stripped, path)
    return path


def _reason(error: BaseException) -> str:
    """What went wrong, without the description of the layer, which Keras prints before it."""
    said = str(error).strip().rpartition("Exception encountered:")[2].strip()
    return (said or type(error).__name__).splitlines()[0]
