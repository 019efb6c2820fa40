"""Fill a model from a checkpoint of TensorFlow 2, by the paths of its objects; those that Keras 2 wrote by layer and variable.

Every variable of the model must find its value: what finds none would answer by chance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from towline.convert import wording
from towline.core.errors import ImportRefused

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_BY_LAYER = re.compile(r"(?:.*/)?layer_with_weights-(\d+)/(.+)")
# What a training keeps beside the model.
_TRAINING = ("optimizer", "save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH", "keras_api", "loss_tracker", "compile_metrics")


def restore(model: Any, prefix: Path) -> None:
    """Raises ImportRefused that names a variable without a value; what TensorFlow raises for a file that is damaged."""
    reader = tf.train.load_checkpoint(str(prefix))
    shapes = reader.get_variable_to_shape_map()
    keys = sorted(key.removesuffix(_VALUE) for key in shapes if key.endswith(_VALUE))
    if any(_BY_LAYER.fullmatch(key) for key in keys) and hasattr(model, "layers"):
        _by_layer(model, reader, keys)
        return
    # `tf.train.Checkpoint(model=net)` puts everything beneath the word it was given.
    words = dict.fromkeys(["", *(key.partition("/")[0] for key in keys if not key.startswith(_TRAINING))])
    failures = []
    for word in words:
        checkpoint = tf.train.Checkpoint(**{word: model}) if word else tf.train.Checkpoint(model)
        try:
            checkpoint.read(str(prefix)).assert_existing_objects_matched().expect_partial()
            return
        except (AssertionError, ValueError) as error:
            failures.append(str(error).partition("\n")[0])
    raise ImportRefused(
        f"The checkpoint does not hold every variable of the model: {wording.sentence(failures[-1])}",
        code="MISSING_WEIGHTS",
        hint=f"It holds: {wording.sentence(', '.join(keys[:6]))}.",
    )


def _by_layer(model: Any, reader: Any, keys: Sequence[str]) -> None:
    """Keras 2 counts the layers that have weights; of a layer's variables it keeps the attributes they stand in."""
    layers = [layer for layer in model._flatten_layers(include_self=False, recursive=False) if layer.weights]
    there: dict[int, dict[str, str]] = {}
    for key in keys:
        found = _BY_LAYER.fullmatch(key)
        if found and not key.startswith(_TRAINING) and "/.OPTIMIZER_SLOT" not in key:
            there.setdefault(int(found[1]), {})[found[2]] = key + _VALUE
    if len(there) != len(layers):
        raise ImportRefused(
            f"The checkpoint has weights of {len(there)} layers, the model that the code builds has {len(layers)}.",
            code="MISSING_WEIGHTS",
            hint="Give the code, and its arguments, with which they were saved.",
        )
    for place, layer in enumerate(layers):
        layer.set_weights([_value_of(variable, there[place], layer.name, reader) for variable in layer.weights])


def _value_of(variable: Any, there: Mapping[str, str], layer: str, reader: Any) -> np.ndarray:
    fitting = [path for path in there if path.rpartition("/")[2] == variable.name]
    if len(fitting) > 1:
        # Of a layer in a layer, such as the one of each direction of a Bidirectional, the path tells which.
        parts = [part.removesuffix("_layer") for part in variable.path.split("/")]
        fitting = [path for path in fitting if path.split("/")[0].removesuffix("_layer") in parts]
    if len(fitting) != 1:
        raise ImportRefused(
            f"The checkpoint has no value for variable {wording.name(variable.name)} of layer {wording.name(layer)}.",
            code="MISSING_WEIGHTS",
        )
    value = np.asarray(reader.get_tensor(there[fitting[0]]))
    if value.shape != tuple(variable.shape):
        raise ImportRefused(
            f"Variable {wording.name(variable.name)} of layer {wording.name(layer)} has shape {value.shape} in the checkpoint, "
            f"{tuple(variable.shape)} in the model that the code builds.",
            code="WEIGHTS_DO_NOT_FIT",
        )
    return value
