"""Programs of torch.export: what they take, as they say it themselves, and how they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from towline.convert import wording
from towline.convert.declared_inputs import BATCH
from towline.convert.torch.program import Arguments, Bind
from towline.core import dtypes
from towline.core.errors import ImportRefused
from towline.core.manifest import TensorSpec

_PLAIN_SYMBOL = re.compile(r"[A-Za-z_]\w*")


def load_exported(path: Path) -> Any:
    """Its loader unpickles sample inputs, which may run code: only ever behind the walls. Raises ImportRefused."""
    try:
        return torch.export.load(str(path))
    except (RuntimeError, ValueError, KeyError, AssertionError, AttributeError, TypeError, EOFError, OSError) as error:
        raise ImportRefused(
            f"The program of torch.export cannot be read: {wording.sentence(str(error).partition(chr(10))[0], hidden=(str(path.parent),))}",
            code="TORN_FILE",
            hint="It is torn, or of another release of PyTorch: export it again with the one in the environment 'torch'.",
        ) from error


def bound_like(exported: Any) -> Bind:
    """How flat tensors become the arguments that the program was exported with."""
    spec = exported.call_spec.in_spec

    def bind(tensors: Sequence[torch.Tensor]) -> Arguments:
        positional, named = pytree.tree_unflatten(list(tensors), spec)
        return tuple(positional), dict(named)

    return bind


def exported_inputs(exported: Any) -> tuple[TensorSpec, ...]:
    """The specs of a program's inputs: its symbols, called s77 and the like, become N for the batch and INPUT_AXIS for others."""
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    names: dict[str, str] = {}
    return tuple(_spec(str(name), values.get(str(name)), names) for name in exported.graph_signature.user_inputs)


def _spec(name: str, value: Any, names: dict[str, str]) -> TensorSpec:
    dtype = dtypes.BY_NAME.get(str(getattr(value, "dtype", "")).removeprefix("torch."))
    if not isinstance(value, torch.Tensor) or dtype is None:
        what = str(value.dtype).removeprefix("torch.") if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
        raise ImportRefused(
            f"The input {wording.name(name)} of the exported program is {what}, which no request can carry.",
            code="UNSUPPORTED_DTYPE",
            hint="Export a class whose forward takes tensors of a usual type, such as float32.",
        )
    return TensorSpec(name, dtype.name, tuple(_dim(size, name, axis, names) for axis, size in enumerate(value.shape)))


def _dim(size: Any, name: str, axis: int, names: dict[str, str]) -> int | str:
    if isinstance(size, int):
        return size
    written = str(size)
    if not _PLAIN_SYMBOL.fullmatch(written):
        raise ImportRefused(
            f"The size of axis {axis} of the input {wording.name(name)} must be {wording.name(written)}.",
            code="UNSUPPORTED_DIM",
            hint="Export it with plain dims: torch.export.Dim('length').",
        )
    if written not in names:
        names[written] = BATCH if axis == 0 and BATCH not in names.values() else f"{name}_{axis}"
    return names[written]
