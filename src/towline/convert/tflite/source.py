"""A .tflite file that was read and found whole, answered by LiteRT."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from towline.convert import wording
from towline.convert.base import ConversionFailed, Converted, Layer
from towline.convert.tflite.model import TfliteModel
from towline.convert.tflite.signature import quantised, signatures
from towline.core.errors import EngineError, ImportRefused, Kind
from towline.core.manifest import Signature

FAILURES = (RuntimeError, ValueError, TypeError)
FILE_NAME = "model.tflite"
Interpret = Callable[[Path], Any]
Route = Callable[[Path, Path, Mapping[str, Signature]], Converted]


class TfliteSource:
    """`interpret` makes an interpreter of a file; `ways` are the routes by name."""

    def __init__(
        self, path: Path, model: TfliteModel, *, interpret: Interpret, ways: Mapping[str, Route], tools: Mapping[str, str]
    ) -> None:
        """Raises ImportRefused when LiteRT cannot prepare the model."""
        self._path = path
        self._model = model
        self._ways = ways
        self._tools = tools
        self._signatures = signatures(model)
        self._quantised = quantised(model)
        try:
            self._interpreter = interpret(path)
            self._interpreter.allocate_tensors()
        except FAILURES as error:
            said = wording.sentence(str(error), hidden=(str(path), str(path.parent)))
            raise ImportRefused(f"LiteRT cannot load this model: {said}", code="SOURCE_UNREADABLE") from error

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    @property
    def facts(self) -> Mapping[str, str]:
        producer = {"producer": self._model.producer} if self._model.producer else {}
        is_quantised = any(
            tensor.scale is not None and tensor.dtype in ("int8", "uint8") for graph in self._model.graphs for tensor in graph.tensors
        )
        return {**self._tools, **producer, **({"quantised": "yes"} if is_quantised else {})}

    @property
    def parameters(self) -> int:
        return self._model.parameters

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._quantised)

    @property
    def routes(self) -> Sequence[str]:
        return tuple(self._ways)

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        names = [spec.name for spec in self._signatures[signature].outputs]
        try:
            # A recurrent layer starts anew with each request.
            self._interpreter.reset_all_variables()
            found = self._run(inputs, signature)
        except FAILURES as error:
            said = wording.sentence(str(error), hidden=(str(self._path), str(self._path.parent)))
            raise EngineError(f"LiteRT refused this input: {said}", code="ENGINE_REFUSED", kind=Kind.INVALID) from error
        return {name: found[name].astype(object) if found[name].dtype.kind in "SU" else found[name] for name in names}

    def convert(self, route: str, into: Path) -> Converted:
        if route not in self._ways:
            raise ConversionFailed(f"There is no route '{route}' from TensorFlow Lite.")
        return self._ways[route](self._path, into, self._signatures)

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> Iterable[Layer]:
        """None: where LiteRT runs fused kernels, what lies between them is never written."""
        return ()

    def _run(self, inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        lite = self._interpreter
        if signature in lite.get_signature_list():
            found: dict[str, np.ndarray] = lite.get_signature_runner(signature)(**inputs)
            return found
        places = {one["name"]: one["index"] for one in lite.get_input_details()}
        for name, array in inputs.items():
            lite.resize_tensor_input(places[name], array.shape)
        lite.allocate_tensors()
        for name, array in inputs.items():
            lite.set_tensor(places[name], array)
        lite.invoke()
        return {one["name"]: lite.get_tensor(one["index"]) for one in lite.get_output_details()}


def served_as_it_is(path: Path, into: Path, signatures: Mapping[str, Signature]) -> Converted:
    """The route `litert`: the file itself, run by LiteRT."""
    shutil.copyfile(path, into / FILE_NAME)
    return Converted(files=dict.fromkeys(signatures, FILE_NAME), engine="litert", environment="litert")
