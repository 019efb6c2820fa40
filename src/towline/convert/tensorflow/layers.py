"""What each layer of a Keras model gives for one request, in the order in which the layers run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from towline.convert.base import Layer


def layers_of(model: Any, arrays: Sequence[np.ndarray]) -> list[Layer]:
    """Runs the model eagerly, with an ear at every layer. A layer that gives several tensors is told by its first."""
    heard: list[Layer] = []
    inner = list(_inner_layers(model, ""))
    try:
        for name, layer in inner:
            layer.call = _heard(layer, name, heard)
        call_flat(model, [tf.constant(array) for array in arrays])
    finally:
        for _, layer in inner:
            # What stands on the object hides what its class defines.
            del layer.call
    return heard


def layer_names(model: Any) -> list[str]:
    return [name for name, _ in _inner_layers(model, "")]


def call_flat(model: Any, tensors: Sequence[Any]) -> Any:
    """Call a Keras model in inference mode with its inputs in order, in whatever structure it takes them."""
    structure = getattr(model, "_inputs_struct", None)
    if structure is not None:
        given = keras.tree.pack_sequence_as(structure, list(tensors))
    else:
        given = tensors[0] if len(tensors) == 1 else list(tensors)
    return model(given, training=False)


def _inner_layers(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Layers by path, those of models inside models as well, each once."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        name = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            yield from _inner_layers(layer, f"{name}/")
        else:
            yield name, layer


def _heard(layer: Any, name: str, heard: list[Layer]) -> Callable[..., Any]:
    call = layer.call

    def call_and_tell(*args: Any, **kwargs: Any) -> Any:
        answer = call(*args, **kwargs)
        tensors = [tensor for tensor in keras.tree.flatten(answer) if tf.is_tensor(tensor)]
        if tensors:
            heard.append(Layer(name, type(layer).__name__, np.array(tensors[0])))
        return answer

    return call_and_tell
