"""The way out to TensorFlow Lite: onnx2tf, in the converter process and in an environment of its own. Imported nowhere else."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from towline.convert.base import ConversionFailed, Converted, Layer, Source, Task
from towline.convert.wording import sentence
from towline.core.errors import EngineError
from towline.core.manifest import DEFAULT_SIGNATURE, Signature

ROUTE = "onnx2tf"
MODEL_NAME = "model.tflite"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.]")


def names_in_file(names: Iterable[str]) -> dict[str, str]:
    """What inputs and outputs are called in the file: as in the graph, but for letters that mean something to TensorFlow. Pure."""
    found: dict[str, str] = {}
    for name in names:
        safe = wanted = _NOT_IN_A_NAME.sub("_", name)
        place = 1
        while safe in found.values():
            place += 1
            safe = f"{wanted}_{place}"
        found[name] = safe
    return found


class OnnxToTflite:
    """An importer in reverse: its source is an ONNX file of ours, and its one route writes a .tflite file."""

    name = "onnx2tf"
    environment = "onnx2tf"

    def load(self, task: Task) -> Source:
        return OnnxSource(task)


class OnnxSource:
    def __init__(self, task: Task) -> None:
        # Else urllib3, which comes with it, opens one to see whether it can, and the walls end the process for that.
        socket.has_ipv6 = False
        import onnx
        import onnx2tf

        self._task = task
        self._onnx2tf = onnx2tf
        self._onnx = onnx

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """None: ours is known, and who it is compared with is asked elsewhere."""
        return {}

    @property
    def facts(self) -> Mapping[str, str]:
        return {"onnx2tf": self._onnx2tf.__version__}

    parameters = 0
    notes: tuple[str, ...] = ()
    routes: Sequence[str] = (ROUTE,)

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        raise EngineError("The version itself is asked, not its file.", code="NOT_ASKED")

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> Iterable[Layer]:
        return ()

    def convert(self, route: str, into: Path) -> Converted:
        work, own = self._task.scratch / "onnx2tf", self._task.scratch / "own"
        # It opens the graph to write to it too; the files of a version are for reading only.
        shutil.copytree(self._task.source.parent, own, copy_function=shutil.copyfile)
        for folder in (own, *(inner for inner in own.rglob("*") if inner.is_dir())):
            folder.chmod(0o700)
        inputs = self._renamed(own / self._task.source.name)
        try:
            self._onnx2tf.convert(
                input_onnx_file_path=str(own / self._task.source.name),
                output_folder_path=str(work),
                # Shapes as they are in the graph; left alone, pictures would be asked for with their channels last.
                keep_shape_absolutely_input_names=inputs,
                not_use_onnxsim=True,
                non_verbose=True,
            )
        except (Exception, SystemExit) as error:
            # It says what it lacks in many ways, and ends the process for some.
            raise ConversionFailed(f"onnx2tf cannot convert this graph: {sentence(str(error) or type(error).__name__)}") from error
        found = sorted(work.glob("*_float32.tflite"))
        if not found:
            raise ConversionFailed("onnx2tf wrote no file for this graph.")
        shutil.move(found[0], into / MODEL_NAME)
        return Converted({DEFAULT_SIGNATURE: MODEL_NAME}, engine="litert", environment="litert")

    def _renamed(self, file: Path) -> list[str]:
        """Give the graph's inputs and outputs names that the file can have, by way of nodes that do nothing; the names of its inputs."""
        model = self._onnx.load(str(file), load_external_data=False)
        graph = model.graph
        weights = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in weights]
        names = names_in_file(value.name for value in (*inputs, *graph.output))
        before, after = [], []
        for value in (*inputs, *graph.output):
            own, new = value.name, names[value.name]
            if own != new and value in inputs:
                before.append(self._onnx.helper.make_node("Identity", [new], [own]))
            elif own != new:
                after.append(self._onnx.helper.make_node("Identity", [own], [new]))
            value.name = new
        if before or after:
            nodes = [*before, *graph.node, *after]
            del graph.node[:]
            graph.node.extend(nodes)
            file.write_bytes(model.SerializeToString())
        return [value.name for value in inputs]
