"""Eight-bit integers in place of floats, by ONNX Runtime's quantiser.

The affine map (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"):
    q = clamp(round(x / scale) + zero_point, low, high)        x' = scale * (q - zero_point)
    scale = (max - min) / (high - low)                         zero_point = round(low - min / scale)
with low, high = 0, 255 for activations (u8) and -127, 127 for weights (s8, symmetric: zero_point 0), or -63, 63 with `reduce_range`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from towline.optimize.base import Arrays, Material, Passed, PassFailed

Calibration = Literal["minmax", "entropy", "percentile"]
# What a CPU gains by: products of weights and activations. The rest follows what feeds it.
QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def reduces_range(cpu: str) -> bool:
    """Whether weights must keep to 7 bits: on x86 without VNNI, two products of u8 and s8 are added in 16 bits, which overflow (saturate).

    `cpu` is as core/cpu.py tells it.
    """
    return ("avx2" in cpu or "avx512" in cpu) and "vnni" not in cpu and "amx" not in cpu


@dataclass(frozen=True)
class Int8:
    """Static: weights per channel, activations by ranges seen in calibration, written as QuantizeLinear/DequantizeLinear pairs.

    `floats` names operators that stay as they were; `weights` is u8 where neither VNNI nor 7 bits will do.
    """

    calibration: Calibration = "minmax"
    per_channel: bool = True
    reduce_range: bool = False
    weights: Literal["s8", "u8"] = "s8"
    floats: tuple[str, ...] = ()

    name = "int8"
    environment = ""

    @property
    def settings(self) -> str:
        words = ["static", f"u8{self.weights}", self.calibration, "per channel" if self.per_channel else "per tensor"]
        words += ["7-bit weights"] if self.reduce_range else []
        words += [f"{len(self.floats)} operator{'s'[: len(self.floats) != 1]} in float"] if self.floats else []
        return ", ".join(words)

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        if not material.calibration:
            raise PassFailed("Static quantisation needs calibration data.", hint="Give some rows: --data PATH.")
        methods = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
        try:
            quantize_static(
                str(prepared(model, into)),
                str(into / "model.onnx"),
                _Reader(material.calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8 if self.weights == "s8" else QuantType.QUInt8,
                nodes_to_exclude=list(self.floats),
                calibrate_method=methods[self.calibration],
                extra_options={"WeightSymmetric": self.weights == "s8", "ActivationSymmetric": False},
            )
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AssertionError) as error:
            raise PassFailed(f"ONNX Runtime cannot quantise this graph: {type(error).__name__}: {str(error)[:120]}") from error
        finally:
            (into / "prepared.onnx").unlink(missing_ok=True)
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

        try:
            quantize_dynamic(
                str(prepared(model, into)),
                str(into / "model.onnx"),
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8,
            )
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AssertionError) as error:
            raise PassFailed(f"ONNX Runtime cannot quantise this graph: {type(error).__name__}: {str(error)[:120]}") from error
        finally:
            (into / "prepared.onnx").unlink(missing_ok=True)
        return Passed("model.onnx")


def prepared(model: Path, into: Path) -> Path:
    """A copy with every operator named (what stays in float is told by name), batch norms folded into convolutions, shapes inferred."""
    import onnx
    import onnxruntime as ort
    from onnx import shape_inference

    options = ort.SessionOptions()
    # Basic: what is fused beyond that is no longer standard ONNX.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(into / "prepared.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    graph = shape_inference.infer_shapes(onnx.load(into / "prepared.onnx"))
    for place, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type}_{place}"
    onnx.save(graph, into / "prepared.onnx")
    return into / "prepared.onnx"


class _Reader:
    """Calibration batches as ONNX Runtime asks for them: one after another, then None."""

    def __init__(self, batches: Sequence[Arrays]) -> None:
        self._batches: Iterator[Arrays] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return dict(batch) if batch is not None else None

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        batch = self.get_next()
        if batch is None:
            raise StopIteration
        return batch

    def set_range(self, start_index: int, end_index: int) -> None:
        raise NotImplementedError("The batches are few, and given all at once.")
