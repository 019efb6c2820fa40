"""An importer whose source is an ONNX graph, which it answers with and whose layers it knows: a framework of a few lines, for tests."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from towline.convert.base import Converted, Layer, Task
from towline.core.manifest import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", ("N", 3, 8, 8)),), (TensorSpec("y", "float32", ("N", 4)),))
# What the layers of frameworks are called, for the operators of ONNX.
KINDS = {"Conv": "Conv2d", "BatchNormalization": "BatchNorm2d", "Relu": "ReLU", "Gemm": "Linear"}


class NetImporter:
    """Reads a file that holds 16 bytes of something, then a graph. `converted` is, in base64, what it says it made of it."""

    name = "net"
    environment = ""

    def load(self, task: Task) -> Net:
        return Net(task)


class Net:
    notes = ()
    facts: Mapping[str, str] = {}
    parameters = 3
    routes = ("copied",)
    signatures = {"serving_default": SIGNATURE}

    def __init__(self, task: Task) -> None:
        self._options = task.options
        self._model = onnx.load_model_from_string(task.source.read_bytes()[16:])
        self._inner = [(node.name, node.op_type, node.output[0]) for node in self._model.graph.node]
        made = {value.name for value in self._model.graph.output}
        self._model.graph.output.extend([helper.ValueInfoProto(name=name) for _, _, name in self._inner if name not in made])
        self._session = onnxruntime.InferenceSession(self._model.SerializeToString(), providers=["CPUExecutionProvider"])

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        return {"y": self._session.run(["y"], dict(inputs))[0]}

    def convert(self, route: str, into: Path) -> Converted:
        (into / "made.onnx").write_bytes(base64.b64decode(self._options["converted"]))
        return Converted({"serving_default": "made.onnx"}, layers={name: name if name != "dense" else "y" for name, _, _ in self._inner})

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> Iterable[Layer]:
        names = [name for _, _, name in self._inner]
        for (name, kind, _), array in zip(self._inner, self._session.run(names, dict(inputs)), strict=True):
            yield Layer(name, KINDS.get(kind, kind), array)
