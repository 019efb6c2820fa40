"""What a model may take, when nobody said: from its parameters' names and its first layers. Each guess is tried before it is believed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from towline.convert.declared_inputs import BATCH
from towline.core.errors import ImportRefused
from towline.core.manifest import TensorSpec

# Sides of pictures, the most usual first.
_SIDES = (224, 32, 28, 64, 256, 299, 128, 96, 16, 8)
_LENGTHS = (16_000, 1024, 128, 16)
_TOKENS = ("input_ids", "token_type_ids", "position_ids", "tokens", "ids")
_MASKS = ("attention_mask", "mask")
_SAID = "Say it: --input 'NAME=float32[N,3,224,224],…', with N where the batch may vary."


def parameter_names(model: nn.Module) -> tuple[str, ...]:
    """Names of what `forward` must be given. Raises ImportRefused where it names none."""
    if isinstance(model, torch.jit.ScriptModule):
        arguments = model._c._get_method("forward").schema.arguments[1:]
        return tuple(one.name for one in arguments if not one.has_default_value())
    parameters = inspect.signature(model.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(one.name for one in parameters if one.default is one.empty and one.kind in kinds)


def known_names(model: nn.Module) -> tuple[str, ...] | None:
    """Names of all that `forward` takes, in order; None where it takes whatever it is given."""
    if isinstance(model, torch.jit.ScriptModule):
        return tuple(one.name for one in model._c._get_method("forward").schema.arguments[1:])
    parameters = inspect.signature(model.forward).parameters.values()
    if any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters):
        return None
    return tuple(one.name for one in parameters)


def guesses(model: nn.Module) -> Iterator[tuple[TensorSpec, ...]]:
    """Signatures that the model may have, likely ones first. Raises ImportRefused where nothing can be guessed."""
    names = parameter_names(model) or ("input",)
    optional = [name for name in known_names(model) or () if name in (*_TOKENS, *_MASKS)]
    if "input_ids" in optional:
        # Language models take much, and need only these.
        chosen = [name for name in optional if name in ("input_ids", "attention_mask", "token_type_ids")]
        for end in range(len(chosen), 0, -1):
            yield tuple(TensorSpec(name, "int64", (BATCH, "T")) for name in chosen[:end])
    if len(names) > 1:
        if all(name in (*_TOKENS, *_MASKS) for name in names):
            yield tuple(TensorSpec(name, "int64", (BATCH, "T")) for name in names)
        raise _unknown(names)
    for dtype, shape in _shapes(model):
        yield (TensorSpec(names[0], dtype, shape),)


def _shapes(model: nn.Module) -> Iterator[tuple[str, tuple[int | str, ...]]]:
    first = _first_layer(model)
    width = _sizes(first)
    kind = getattr(first, "original_name", type(first).__name__)
    if kind in ("Embedding", "EmbeddingBag"):
        yield from (("int64", (BATCH, "T")), ("int64", (BATCH, 16)), ("int64", (BATCH,)))
    elif len(width) == 4:
        channels = width[1] * getattr(first, "groups", 1)
        yield from (("float32", (BATCH, channels, side, side)) for side in _SIDES)
    elif len(width) == 3:
        channels = width[1] * getattr(first, "groups", 1)
        yield from (("float32", (BATCH, channels, length)) for length in _LENGTHS)
    elif isinstance(first, nn.RNNBase) or "in_proj_weight" in dict(_own(first)):
        size = int(getattr(first, "input_size", 0) or getattr(first, "embed_dim", 0))
        order = (BATCH, "T", size) if getattr(first, "batch_first", False) else ("T", BATCH, size)
        yield from (("float32", order), ("float32", tuple(16 if dim == "T" else dim for dim in order)))
    elif len(width) == 2:
        yield from (("float32", (BATCH, width[1])), ("float32", (BATCH, 16, width[1])))
    elif len(width) == 1:
        yield ("float32", (BATCH, width[0]))
    else:
        raise _unknown(())


def _first_layer(model: nn.Module) -> nn.Module:
    """The first module with weights of its own, in the order in which they were declared."""
    return next((module for module in model.modules() if any(value.ndim for _, value in _own(module))), model)


def _own(module: nn.Module) -> Sequence[tuple[str, Any]]:
    return list(module.named_parameters(recurse=False))


def _sizes(layer: nn.Module) -> tuple[int, ...]:
    weight = dict(_own(layer)).get("weight")
    return tuple(weight.shape) if isinstance(weight, torch.Tensor) else ()


def _unknown(names: Sequence[str]) -> ImportRefused:
    what = f"The model takes {', '.join(names)}" if names else "Nothing tells"
    return ImportRefused(
        f"{what}, and what these are cannot be told from its layers." if names else f"{what} what the model takes.",
        code="INPUT_NEEDED",
        field="input",
        hint=_SAID,
    )
