"""Find a model's signature by running it: what it answers, which dims vary with which, and whether the same input gets the same answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from towline.convert.declared_inputs import BATCH
from towline.convert.torch.outputs import leaves, output_names, tensor_places
from towline.convert.torch.program import Bind, Flat, Program, array_of, call, example
from towline.core import dtypes
from towline.core.errors import EngineError, ImportRefused
from towline.core.manifest import Signature, TensorSpec

# Sizes that are tried for open dims other than that of the batch, such as a length or the side of a picture.
_SIZES = (8, 32, 64, 224, 256, 16_000)
_BATCH = 2
# Bits apart that two runs of one kernel on one machine may be.
_SAME = {"rtol": 1e-5, "atol": 1e-6}


def symbols(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The names of open dims, in order."""
    return tuple(dict.fromkeys(dim for spec in specs for dim in spec.shape or () if isinstance(dim, str)))


def starting_sizes(specs: Sequence[TensorSpec]) -> Iterator[dict[str, int]]:
    names = symbols(specs)
    if set(names) <= {BATCH}:
        yield {BATCH: _BATCH}
        return
    for size in _SIZES:
        yield {name: _BATCH if name == BATCH else size for name in names}


def probe(model: nn.Module, bind: Bind, specs: tuple[TensorSpec, ...]) -> tuple[Program, tuple[str, ...]]:
    """The program with its full signature, and notes. Raises ImportRefused: with the model's words where it refuses these inputs."""
    sizes = _first_that_runs(Flat(model, bind, ()), specs)
    tensors = [example(spec, sizes, seed=place) for place, spec in enumerate(specs)]
    positional, named = bind(tensors)
    with torch.no_grad():
        found = leaves(model(*positional, **named))
    places, notes = tensor_places(found)
    names = output_names([found[place].path for place in places], tuple(spec.name for spec in specs))
    flat = Flat(model, bind, places)
    check_repeats(flat, [example(spec, sizes, seed=place) for place, spec in enumerate(specs)])
    outputs = _outputs(flat, specs, sizes, names)
    return Program(flat, Signature(specs, outputs)), notes


def _first_that_runs(flat: Flat, specs: Sequence[TensorSpec]) -> dict[str, int]:
    first: EngineError | None = None
    for sizes in starting_sizes(specs):
        try:
            call(flat, [example(spec, sizes, seed=place) for place, spec in enumerate(specs)])
        except EngineError as error:
            first = first or error
            continue
        return sizes
    assert first is not None
    shown = ", ".join(f"{spec.name} {spec.dtype}[{','.join(map(str, spec.shape or ()))}]" for spec in specs)
    raise ImportRefused(
        f"The model does not take {shown}. {first.message}",
        code="WRONG_INPUT",
        field="input",
        hint="Say what it takes: --input 'float32[N,3,224,224]', with N where the batch may vary.",
    )


def _outputs(flat: Flat, specs: Sequence[TensorSpec], sizes: Mapping[str, int], names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """One run with the starting sizes, and one more per open dim with another: what changes with it is open too."""
    base = _answers(flat, specs, sizes)
    dims: list[list[int | str]] = [list(answer.shape) for answer in base]
    for symbol in symbols(specs):
        changed = {**sizes, symbol: sizes[symbol] + 1 if symbol == BATCH else sizes[symbol] * 2}
        try:
            others = _answers(flat, specs, changed)
        except EngineError as error:
            raise _fixed(symbol, changed[symbol], error) from error
        for name, shape, before, after in zip(names, dims, base, others, strict=True):
            if before.ndim != after.ndim:
                raise ImportRefused(f"The rank of the output '{name}' depends on the size of the input.", code="UNSUPPORTED_OUTPUT")
            for axis, (one, other) in enumerate(zip(before.shape, after.shape, strict=True)):
                if one != other:
                    same = (one, other) == (sizes[symbol], changed[symbol]) and isinstance(shape[axis], int)
                    shape[axis] = symbol if same else f"{name}_{axis}"
    return tuple(_spec(name, answer, shape) for name, answer, shape in zip(names, base, dims, strict=True))


def _answers(flat: Flat, specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
    return call(flat, [example(spec, sizes, seed=place) for place, spec in enumerate(specs)])


def _spec(name: str, answer: torch.Tensor, shape: Sequence[int | str]) -> TensorSpec:
    found = dtypes.BY_NAME.get(str(answer.dtype).removeprefix("torch."))
    if found is None:
        raise ImportRefused(
            f"The output '{name}' is {str(answer.dtype).removeprefix('torch.')}, which no response can carry.",
            code="UNSUPPORTED_DTYPE",
            hint="Wrap the model in a class that turns it into real numbers, and give that class with --arch.",
        )
    return TensorSpec(name, found.name, tuple(shape))


def _fixed(symbol: str, size: int, error: EngineError) -> ImportRefused:
    return ImportRefused(
        f"The dim {symbol} was said to be open, but the model refuses the size {size}. {error.message}",
        code="FIXED_DIM",
        field="input",
        hint=f"Give a number in place of {symbol}: --input 'float32[1,…]'.",
    )


def check_repeats(flat: nn.Module, tensors: Sequence[torch.Tensor]) -> None:
    """Raise ImportRefused for a model that keeps a state on itself between calls, or draws random numbers."""
    first, second = (_seeded(flat, tensors, seed=1) for _ in range(2))
    if not _equal(first, second):
        raise ImportRefused(
            "The same input gets another answer when it is asked again: the model keeps a state on itself between calls.",
            code="KEEPS_STATE",
            hint="Make the state an input and an output of forward: forward(x, state) -> (y, state); whoever asks hands it on.",
        )
    if not _equal(first, _seeded(flat, tensors, seed=2)):
        raise ImportRefused(
            "The same input gets another answer each time: the model draws random numbers in inference.",
            code="DRAWS_AT_RANDOM",
            hint="Take them as an input, or use nn.Dropout, which rests in inference, in place of functional.dropout(training=True).",
        )


def _seeded(flat: nn.Module, tensors: Sequence[torch.Tensor], *, seed: int) -> list[np.ndarray]:
    torch.manual_seed(seed)
    return [array_of(answer) for answer in call(flat, [tensor.clone() for tensor in tensors])]


def _equal(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return all(
        one.shape == other.shape and np.allclose(one, other, **_SAME, equal_nan=True) for one, other in zip(first, second, strict=True)
    )


def replace_dims(spec: TensorSpec, sizes: Mapping[str, int]) -> TensorSpec:
    """The spec with sizes in place of these symbols."""
    return TensorSpec(spec.name, spec.dtype, tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape or ()))
