"""Fix the dims that are always the same in the rows that calibrate, so that ONNX Runtime can plan and fold by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towline.optimize.base import Arrays, Material, Passed, PassFailed


@dataclass(frozen=True)
class FixShape:
    """The first axis stays open: it is the batch. What comes out refuses every other size, so nobody gets it who did not ask for it."""

    name = "fix-shape"
    environment = ""

    @property
    def settings(self) -> str:
        return "dims that are always the same"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        import onnx
        from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

        if not material.calibration:
            raise PassFailed("Which dims are always the same is told by calibration data.", hint="Give some rows: --data PATH.")
        proto = onnx.load(model)
        fixed = always(proto.graph.input, material.calibration)
        if not fixed:
            raise PassFailed("No dim is open but the first, or none is of one size in all rows: there is nothing to fix.")
        for value in proto.graph.input:
            for axis, size in fixed.get(value.name, {}).items():
                dim = value.type.tensor_type.shape.dim[axis]
                if dim.dim_param:
                    make_dim_param_fixed(proto.graph, dim.dim_param, size)
                else:
                    dim.dim_value = size
        onnx.save(proto, into / "model.onnx")
        told = [f"{value.name} [{', '.join(_words(value))}]" for value in proto.graph.input if value.name in fixed]
        return Passed("model.onnx", (f"It takes one size only: {', '.join(told)}.",))


def always(inputs: Any, batches: Sequence[Arrays]) -> dict[str, dict[int, int]]:
    """By input (onnx.ValueInfoProto) and axis, the size of each open dim that is the same in all batches. A symbol has one size wherever it
    stands, and one that is a first axis somewhere is the batch. Pure."""
    dims = {value.name: value.type.tensor_type.shape.dim for value in inputs if value.name in batches[0]}
    batch = {of[0].dim_param for of in dims.values() if of}
    sizes: dict[tuple[str, int] | str, set[int]] = {}
    open_dims = [(name, axis, dim.dim_param) for name, of in dims.items() for axis, dim in enumerate(of) if axis and not dim.dim_value]
    for name, axis, symbol in open_dims:
        sizes.setdefault(symbol or (name, axis), set()).update(batch[name].shape[axis] for batch in batches)
    fixed: dict[str, dict[int, int]] = {}
    for name, axis, symbol in open_dims:
        seen = sizes[symbol or (name, axis)]
        if len(seen) == 1 and symbol not in batch - {""}:
            fixed.setdefault(name, {})[axis] = min(seen)
    return fixed


def _words(value: Any) -> list[str]:
    return [str(dim.dim_value or dim.dim_param or "?") for dim in value.type.tensor_type.shape.dim]
