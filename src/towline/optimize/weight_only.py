"""Weights of matrix products as 4 or 8 bits that stay so in memory, by ONNX Runtime's operator MatMulNBits. Inner values stay floats.

Every `block` weights of one output share a scale (and, not symmetric, a zero point): w' = scale * (q - zero_point). It saves bytes, on disk
and in memory. Whether it saves time depends on the machine, and is measured: unpacking costs, and small products do not wait for memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from towline.core.errors import MissingExtra
from towline.optimize.base import Material, Pass, Passed, PassFailed
from towline.optimize.stored import Stored

if TYPE_CHECKING:
    from onnxruntime.quantization.onnx_model import ONNXModel

BLOCKS = (16, 32, 64, 128, 256)
# How MatMulNBits multiplies: 0 as floats, 4 with inner values rounded to 8 bits at every run.
Multiplies = Literal["float", "int8"]
_ACCURACY_LEVEL: dict[Multiplies, int] = {"float": 0, "int8": 4}


@dataclass(frozen=True)
class WeightOnly:
    """`multiplies` as int8 rounds the inner values of a product as well, each row by its own range: a row's answer stays its own."""

    bits: Literal[4, 8] = 4
    block: int = 32
    symmetric: bool = False
    multiplies: Multiplies = "float"

    environment = ""

    @property
    def name(self) -> str:
        return f"int{self.bits} weights"

    @property
    def settings(self) -> str:
        return f"blocks of {self.block}, {'' if self.symmetric else 'a'}symmetric, multiplied as {self.multiplies}"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        import onnx

        if self.block not in BLOCKS:
            raise PassFailed(f"A block of {self.block} weights: ONNX Runtime knows {', '.join(map(str, BLOCKS))}.")
        graph, found = _quantised(onnx.load(model), self)
        if not found:
            raise PassFailed("No matrix product of this graph has a constant weight of two dimensions: there is nothing to make smaller.")
        onnx.save(graph.model, into / "model.onnx")
        return Passed("model.onnx", (f"{found} matrix products have weights of {self.bits} bits.",))


def weights_only() -> tuple[Pass, ...]:
    """What a search should try, in this order: the same speed with a smaller file, then what may also be quicker, then ever fewer bits."""
    packed = (WeightOnly(bits, multiplies=how) for bits, how in ((8, "int8"), (4, "int8"), (4, "float")))  # type: ignore[arg-type]
    return (Stored(8), *packed, Stored(4, block=32, symmetric=False))


def _quantised(model: object, how: WeightOnly) -> tuple[ONNXModel, int]:
    """The graph with MatMulNBits where it could be, and how many there are."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    except ModuleNotFoundError:
        raise MissingExtra("Weights of 4 bits need onnx-ir.", hint="Install it: pip install 'towline[optimize]'") from None
    graph = ONNXModel(model)
    # What PyTorch writes for a linear layer.
    graph.replace_gemm_with_matmul()
    before = _count(graph)
    config = DefaultWeightOnlyQuantConfig(
        block_size=how.block, is_symmetric=how.symmetric, accuracy_level=_ACCURACY_LEVEL[how.multiplies], bits=how.bits
    )
    try:
        quantizer = MatMulNBitsQuantizer(graph.model, algo_config=config)
        quantizer.process()
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AssertionError) as error:
        raise PassFailed(f"ONNX Runtime cannot quantise these weights: {type(error).__name__}: {str(error)[:120]}") from error
    return quantizer.model, _count(quantizer.model) - before


def _count(graph: ONNXModel) -> int:
    return sum(node.op_type == "MatMulNBits" for node in graph.model.graph.node)
