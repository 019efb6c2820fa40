"""The ways out of PyTorch: two exporters to ONNX, and PyTorch's own formats for what neither can express."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from towline.convert import wording
from towline.convert.base import ConversionFailed
from towline.convert.torch.probing import starting_sizes
from towline.convert.torch.program import Flat, Program
from towline.core.manifest import TensorSpec

ONNX_FILE = "model.onnx"
OPSET = 17
# Beyond this the weights are written beside the graph: one message of protobuf holds at most 2 GiB.
MAX_INLINE_BYTES = 1 << 30
_BRANCHES = "The model's code branches on values; what was written down is the way that one run took."


@dataclass(frozen=True)
class Wrote:
    """The model's file; others may lie beside it. `notes` are sentences for the report."""

    file: Path
    notes: tuple[str, ...] = ()


def by_torchscript(program: Program, into: Path) -> Wrote:
    """The exporter that runs the model once and writes down what happened: the quicker one, for what has no branches of its own."""
    file = into / ONNX_FILE
    example = sample(program)
    model = program.flat if not is_script(program) else torch.jit.trace(program.flat, example, check_trace=False, strict=False)

    def export() -> None:
        torch.onnx.export(
            model,
            example,
            str(file),
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            dynamic_axes={spec.name: _open_axes(spec) for spec in (*program.signature.inputs, *program.signature.outputs)},
            opset_version=OPSET,
            dynamo=False,
        )

    return Wrote(file, _tried(export))


def by_dynamo(program: Program, into: Path) -> Wrote:
    """The exporter that goes over torch.export: slower, and able to express more."""
    file = into / ONNX_FILE

    def export() -> None:
        made = torch.onnx.export(
            _own_export(program) or as_exported(program),
            (),
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            dynamo=True,
            verbose=False,
        )
        assert made is not None
        made.save(str(file), external_data=weight_bytes(program) > MAX_INLINE_BYTES)

    return Wrote(file, _tried(export))


def as_program(program: Program, into: Path) -> Wrote:
    """For PyTorch's own engine: the program of torch.export, without the sample inputs that its loader would unpickle."""
    file = into / "model.pt2"

    def export() -> None:
        exported = as_exported(program)
        exported._example_inputs = None
        torch.export.save(exported, str(file))

    return Wrote(file, _tried(export))


def as_script(program: Program, into: Path) -> Wrote:
    """For PyTorch's own engine: TorchScript, as it came or as its compiler reads the code, with all branches; else as one run."""
    file = into / "model.pt"

    def export() -> None:
        torch.jit.save(torch.jit.trace(_compiled(program), sample(program), check_trace=False, strict=False), str(file))

    return Wrote(file, _tried(export))


def _compiled(program: Program) -> Flat:
    if is_script(program):
        return program.flat
    try:
        return program.flat.around(torch.jit.script(program.model))
    except Exception:
        # The compiler knows a part of Python only, and says so with whatever it stumbles over.
        return program.flat


def is_script(program: Program) -> bool:
    return isinstance(program.model, torch.jit.ScriptModule)


def sample(program: Program) -> tuple[torch.Tensor, ...]:
    """Inputs that the model takes: those that it was probed with."""
    for sizes in starting_sizes(program.signature.inputs):
        example = program.example(sizes)
        try:
            with torch.no_grad():
                program.flat(*(tensor.clone() for tensor in example))
        except RuntimeError:
            continue
        return example
    return program.example(next(iter(starting_sizes(program.signature.inputs))))


def as_exported(program: Program) -> Any:
    """The model as a program of torch.export with the signature's open dims."""
    example = sample(program)
    if is_script(program):
        # The way that PyTorch has for this; not public, so that its absence is a route that fails.
        from torch._export.converter import TS2EPConverter

        script = torch.jit.trace(program.flat, example, check_trace=False, strict=False)
        return TS2EPConverter(script, example).convert()
    open_dims = tuple(dict.fromkeys(_open_axes(spec), torch.export.Dim.AUTO) for spec in program.signature.inputs)
    return torch.export.export(program.flat, example, dynamic_shapes=(open_dims,), strict=False)


def _own_export(program: Program) -> Any:
    """The program that the source is, where all it answers with are the signature's outputs: it knows which operator is of which module."""
    exported = program.exported
    return exported if exported is not None and len(exported.graph_signature.user_outputs) == len(program.outputs) else None


def weight_bytes(program: Program) -> int:
    return sum(value.numel() * value.element_size() for value in program.model.state_dict().values() if isinstance(value, torch.Tensor))


def _open_axes(spec: TensorSpec) -> dict[int, str]:
    return {axis: dim for axis, dim in enumerate(spec.shape or ()) if isinstance(dim, str)}


def _tried(export: Callable[[], None]) -> tuple[str, ...]:
    """Whatever an exporter raises means that this route is closed: there is no list of what it may raise. Returns notes."""
    try:
        with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", torch.jit.TracerWarning)
            export()
    except Exception as error:
        raise ConversionFailed(f"{type(error).__name__}: {_reason(error)}") from error
    branches = any("Python boolean" in str(one.message) for one in caught if issubclass(one.category, torch.jit.TracerWarning))
    return (_BRANCHES,) if branches else ()


def _reason(error: Exception) -> str:
    """Exporters wrap the cause in pages of advice: the innermost cause's first line says the most."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return wording.sentence(lines[0] if lines else type(error).__name__)
