"""Clean a graph: constants folded, what does nothing removed, shapes inferred. The answers stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from towline.core.errors import MissingExtra
from towline.optimize.base import Material, Passed, PassFailed


@dataclass(frozen=True)
class Slim:
    """onnxslim: constant folding, elimination and fusion of operators."""

    name = "slim"
    environment = ""

    @property
    def settings(self) -> str:
        return "onnxslim"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        import onnx

        try:
            import onnxslim
        except ModuleNotFoundError:
            raise MissingExtra("Cleaning a graph needs onnxslim.", hint="Install it: pip install 'towline[optimize]'") from None
        before = onnx.load(model)
        try:
            after = onnxslim.slim(onnx.load(model))
        except Exception as error:
            # Whatever a foreign optimiser raises on an odd graph.
            raise PassFailed(f"onnxslim cannot read this graph: {type(error).__name__}.") from error
        if after is None:
            raise PassFailed("onnxslim gave no graph back.")
        onnx.save(after, into / "model.onnx")
        note = f"{len(before.graph.node)} operators became {len(after.graph.node)}."
        return Passed("model.onnx", (note,))


@dataclass(frozen=True)
class Half:
    """Weights and inner values as float16, inputs and outputs as they were. On a CPU this saves bytes and costs time."""

    name = "float16"
    environment = ""

    @property
    def settings(self) -> str:
        return "weights and inner values"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        try:
            half = OnnxModel(convert_float_to_float16(onnx.load(model), keep_io_types=True))
            # Its casts stand at the end, after what reads them.
            half.topological_sort()
            onnx.save(half.model, into / "model.onnx")
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
            raise PassFailed(f"The graph cannot be made float16: {type(error).__name__}.") from error
        return Passed("model.onnx")
