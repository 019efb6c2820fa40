"""Eight-bit integers in place of floats, by ONNX Runtime's quantiser.

The affine map (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"):
    q = clamp(round(x / scale) + zero_point, low, high)        x' = scale * (q - zero_point)
    scale = (max - min) / (high - low)                         zero_point = round(low - min / scale)
with low, high = 0, 255 for activations (u8) and -127, 127 for weights (s8, symmetric: zero_point 0), or -63, 63 with `reduce_range`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.qat import FLOATS
from towline.optimize.qdq import QUANTISED, Calibration, Scheme, prepared, quantising, ranges, write_pairs


def reduces_range(cpu: str) -> bool:
    """Whether weights must keep to 7 bits: on x86 without VNNI, two products of u8 and s8 are added in 16 bits, which overflow (saturate).

    `cpu` is as core/cpu.py tells it.
    """
    return ("avx2" in cpu or "avx512" in cpu) and "vnni" not in cpu and "amx" not in cpu


@dataclass(frozen=True)
class Int8:
    """Static: weights per channel, activations by ranges seen in calibration, written as QuantizeLinear/DequantizeLinear pairs.

    `floats` names operators that stay as they were. `weights` is u8 where neither VNNI nor 7 bits will do, and asks for `activations` u8.
    """

    calibration: Calibration = "minmax"
    per_channel: bool = True
    reduce_range: bool = False
    weights: Literal["s8", "u8"] = "s8"
    floats: tuple[str, ...] = ()
    activations: Literal["s8", "u8"] = "u8"

    name = "int8"
    environment = ""

    @property
    def settings(self) -> str:
        words = ["static", f"{self.activations}{self.weights}", self.calibration, "per channel" if self.per_channel else "per tensor"]
        words += ["7-bit weights"] if self.reduce_range else []
        words += [f"{len(self.floats)} operator{'s'[: len(self.floats) != 1]} in float"] if self.floats else []
        return ", ".join(words)

    @property
    def scheme(self) -> Scheme:
        return Scheme(self.weights, self.activations, self.per_channel, self.reduce_range)

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        if not material.calibration:
            raise PassFailed("Static quantisation needs calibration data.", hint="Give some rows: --data PATH.")
        if (self.activations, self.weights) == ("s8", "u8"):
            raise PassFailed("No processor multiplies s8 activations by u8 weights; there is u8s8, u8u8 and s8s8.")
        with quantising():
            graph = prepared(model, into)
            write_pairs(graph, into / "model.onnx", ranges(graph, material.calibration, self.calibration), self.scheme, self.floats)
            # Training with rounded numbers starts from it.
            graph.rename(into / FLOATS)
        return Passed("model.onnx")


@dataclass(frozen=True)
class DynamicInt8:
    """Weights as s8, activations measured at every run: needs no data, and makes a row's answer depend on those beside it."""

    reduce_range: bool = False

    name = "dynamic int8"
    environment = ""

    @property
    def settings(self) -> str:
        return "weights s8, activations per run" + (", 7-bit weights" if self.reduce_range else "")

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with quantising():
            graph = prepared(model, into)
            quantize_dynamic(
                str(graph),
                str(into / "model.onnx"),
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8,
            )
            graph.unlink()
        return Passed("model.onnx")
