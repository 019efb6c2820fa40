"""A model of PyTorch, loaded and probed: answers, and is converted by one route after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from towline.convert.base import ConversionFailed, Converted, Layer
from towline.convert.torch import routes
from towline.convert.torch.layers import FLAT_ROOT, run_layers, tensors_of_layers, told
from towline.convert.torch.program import Program, tensor_of
from towline.core.manifest import DEFAULT_SIGNATURE, Signature

_TO_ONNX: Mapping[str, Callable[[Program, Path], routes.Wrote]] = {"torchscript": routes.by_torchscript, "dynamo": routes.by_dynamo}
_TO_TORCH: Mapping[str, Callable[[Program, Path], routes.Wrote]] = {"torch": routes.as_program, "torch-script": routes.as_script}
_WORDS = {
    "torchscript": "It was exported to ONNX by one run of the model (PyTorch's TorchScript exporter).",
    "dynamo": "It was exported to ONNX by way of torch.export.",
    "torch": "It is run by PyTorch itself, as a program of torch.export.",
    "torch-script": "It is run by PyTorch itself, as TorchScript.",
}


class TorchSource:
    """Source of the contract (convert/base.py) for everything that PyTorch writes."""

    def __init__(self, program: Program, *, architecture: str, notes: tuple[str, ...]) -> None:
        self._program = program
        self._architecture = architecture
        self._notes = notes

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return {DEFAULT_SIGNATURE: self._program.signature}

    @property
    def facts(self) -> Mapping[str, str]:
        return {"torch": torch.__version__, "architecture": self._architecture}

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._program.model.parameters())

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes

    @property
    def routes(self) -> Sequence[str]:
        if self._program.exported is not None:
            return ("dynamo", "torch")
        return ("torchscript", "dynamo", "torch-script") if routes.is_script(self._program) else (*_TO_ONNX, *_TO_TORCH)

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        return self._program.run(inputs)

    def convert(self, route: str, into: Path) -> Converted:
        if route in _TO_TORCH:
            wrote = _TO_TORCH[route](self._program, into)
            return Converted({DEFAULT_SIGNATURE: wrote.file.name}, engine="torch", environment="torch", notes=(_WORDS[route], *wrote.notes))
        if route not in _TO_ONNX:
            raise ConversionFailed(f"There is no route '{route}'; there are {', '.join(self.routes)}.")
        # Late: what only answers needs no ONNX.
        import onnx

        from towline.convert.torch.cleaning import clean

        wrote = _TO_ONNX[route](self._program, into)
        graph = onnx.load(str(wrote.file), load_external_data=False).graph
        root = FLAT_ROOT if self._program.exported is None else ""
        known = tensors_of_layers(graph, run_layers(self._program, routes.sample(self._program)), root=root)
        layers, notes = clean(wrote.file, self._program.signature, known)
        return Converted({DEFAULT_SIGNATURE: wrote.file.name}, layers=layers, notes=(_WORDS[route], *wrote.notes, *notes))

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> Iterable[Layer]:
        return told(run_layers(self._program, [tensor_of(inputs[name]) for name in self._program.inputs]))
