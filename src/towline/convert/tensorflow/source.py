"""A loaded source of TensorFlow's, whatever it came from: it answers, names its routes and hands itself to them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from towline.convert.base import ConversionFailed, Converted, Layer
from towline.convert.feature_defaults import Defaults
from towline.convert.tensorflow import onnx_route, saved_model_route
from towline.convert.tensorflow.program import Program
from towline.core.errors import EngineError
from towline.core.manifest import Signature

_TOOLS = ("tensorflow-cpu", "tensorflow", "keras", "tf2onnx", "onnxslim", "onnx")


@dataclass(frozen=True)
class TensorFlowSource:
    """`programs` are its signatures. `original` is the folder of the SavedModel that it is, if it is one.

    `model` is the Keras model, where it is one. `holds` keeps alive what the programs use.
    """

    programs: Mapping[str, Program]
    parameters: int
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    original: Path | None = None
    model: Any = None
    holds: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", {**_versions(), **self.facts})

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return {name: program.signature for name, program in self.programs.items()}

    @property
    def feature_defaults(self) -> Defaults:
        return {name: program.defaults for name, program in self.programs.items() if program.defaults}

    @property
    def routes(self) -> Sequence[str]:
        return ("tf2onnx", *(("keras-onnx",) if self.model is not None else ()), "tensorflow")

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        if signature not in self.programs:
            raise EngineError(f"There is no signature '{signature}'; there is: {', '.join(self.programs)}.", code="NO_SUCH_SIGNATURE")
        return self.programs[signature].run(inputs)

    def convert(self, route: str, into: Path) -> Converted:
        match route:
            case "tf2onnx":
                return onnx_route.convert(self.programs, into, layers=self._layer_names())
            case "keras-onnx" if self.model is not None:
                return onnx_route.convert_by_keras(self.model, self.programs, into)
            case "tensorflow":
                return saved_model_route.convert(self, into)
        raise ConversionFailed(f"There is no route '{route}'.")

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> Iterable[Layer]:
        if self.model is None:
            return ()
        # Late: Keras is there for Keras models only.
        from towline.convert.tensorflow.layers import layers_of

        return layers_of(self.model, [inputs[name] for name in self.programs[signature].inputs])

    def _layer_names(self) -> Sequence[str]:
        if self.model is None:
            return ()
        from towline.convert.tensorflow.layers import layer_names

        return layer_names(self.model)


def _versions() -> dict[str, str]:
    found = {}
    for tool in _TOOLS:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
