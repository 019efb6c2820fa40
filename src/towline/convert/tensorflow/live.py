"""A Keras model of the caller's own process as a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras as framework

from towline.convert.base import Source
from towline.convert.tensorflow.keras import keras_source
from towline.core.errors import ImportRefused


def source_of(model: Any, options: Mapping[str, str]) -> Source:
    """The model itself stays as it is; built, it says all that options could. Raises ImportRefused."""
    backend = framework.backend.backend()
    if backend != "tensorflow":
        raise ImportRefused(
            f"Keras runs on {backend} here; a model is converted where it runs on TensorFlow.",
            code="OTHER_BACKEND",
            hint="Save it and import the file: model.save('model.keras'); then towline import model.keras",
        )
    return keras_source(model, facts={"architecture": type(model).__name__[:64]})
