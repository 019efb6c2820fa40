"""A model with what it takes and gives: one flat tuple of tensors in, one out, whatever its own calling convention is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from towline.convert import wording
from towline.convert.torch.outputs import leaves
from towline.core.errors import EngineError, Kind
from towline.core.manifest import Signature, TensorSpec

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Bind = Callable[[Sequence[torch.Tensor]], Arguments]
# What PyTorch raises for an input that does not fit; the last is that of a model's own code.
RUN_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError, AttributeError, NotImplementedError)


class Flat(nn.Module):  # type: ignore[misc]
    """`model` behind a plain face: tensors in the order of the signature in, a tuple of tensors out. Exporters see this one."""

    def __init__(self, model: nn.Module, bind: Bind, places: Sequence[int] | None = None) -> None:
        """`places` are those leaves of the answer that are outputs; all where it is None."""
        super().__init__()
        self.model = model
        self._bind = bind
        self._places = places
        # An exporter puts a model back into the mode in which it found it: that of this one, with all that is within.
        self.training = False

    def around(self, model: nn.Module) -> Flat:
        """The same face for another form of the model."""
        return Flat(model, self._bind, self._places)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        positional, named = self._bind(tensors)
        values = [leaf.value for leaf in leaves(self.model(*positional, **named))]
        kept = values if self._places is None else [values[place] for place in self._places]
        # numpy and the wire know no bfloat16; every one of its values is a float32.
        return tuple(value.float() if value.dtype == torch.bfloat16 else value for value in kept)


@dataclass(frozen=True)
class Program:
    """A model ready to be asked. `exported` is the torch.export program that it came from, where it did."""

    flat: Flat
    signature: Signature
    exported: Any = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.signature.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.signature.outputs)

    @property
    def model(self) -> nn.Module:
        return self.flat.model

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EngineError when the model refuses."""
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise EngineError(f"The input '{missing[0]}' is missing.", code="ENGINE_REFUSED", kind=Kind.INVALID)
        answers = call(self.flat, [tensor_of(inputs[name]) for name in self.inputs])
        return {name: array_of(answer) for name, answer in zip(self.outputs, answers, strict=True)}

    def example(self, sizes: Mapping[str, int], *, seed: int = 0) -> tuple[torch.Tensor, ...]:
        return tuple(example(spec, sizes, seed=seed + place) for place, spec in enumerate(self.signature.inputs))


def call(flat: nn.Module, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Run without gradients. Raises EngineError with the framework's own words."""
    try:
        with torch.no_grad():
            return tuple(flat(*tensors))
    except RUN_FAILURES as error:
        raise EngineError(f"The model refused this input: {said(error)}", code="ENGINE_REFUSED", kind=Kind.INVALID) from error


def said(error: Exception) -> str:
    """The last line of what PyTorch says: with TorchScript the lines before it are code."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return wording.sentence(lines[-1] if lines else type(error).__name__)


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """A copy: a model may write into what it is given."""
    return torch.from_numpy(np.array(array, order="C"))


def array_of(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = np.ascontiguousarray(tensor.detach().cpu().resolve_conj().resolve_neg().numpy())
    return array if tensor.ndim else array.reshape(())


def example(spec: TensorSpec, sizes: Mapping[str, int], *, seed: int = 0) -> torch.Tensor:
    """Values that any model takes: normal floats, and the integers 0 and 1, which every table of embeddings has."""
    shape = [dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape or ()]
    rng = np.random.default_rng(seed)
    if spec.dtype.startswith("float"):
        return torch.from_numpy(np.asarray(rng.normal(0, 1, shape).astype(spec.dtype)))
    return torch.from_numpy(np.asarray(rng.integers(0, 2, shape).astype(spec.dtype)))


def bound_by_name(names: Sequence[str], known: Sequence[str] | None) -> Bind:
    """How tensors with these names are given to `forward`, which takes `known`. `state.0`, `state.1` make a tuple, `x.a` a dict."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for place, name in enumerate(names):
        parameter, _, inner = name.partition(".")
        groups.setdefault(parameter, []).append((inner, place))

    def value(group: list[tuple[str, int]], tensors: Sequence[torch.Tensor]) -> Any:
        if not group[0][0]:
            return tensors[group[0][1]]
        if all(inner.isdecimal() for inner, _ in group):
            return tuple(tensors[place] for _, place in sorted(group, key=lambda one: int(one[0])))
        return {inner: tensors[place] for inner, place in group}

    # As long as they are the first parameters in order they need no names, and may be positional only.
    lead = 0
    for given, parameter in zip(groups, known or groups, strict=False):
        if given != parameter:
            break
        lead += 1

    def bind(tensors: Sequence[torch.Tensor]) -> Arguments:
        made = {parameter: value(group, tensors) for parameter, group in groups.items()}
        ordered = list(made)
        return tuple(made[name] for name in ordered[:lead]), {name: made[name] for name in ordered[lead:]}

    return bind
