"""Take a model's answer apart: tensors with the names of their keys or fields, and what is no tensor. The order is that of the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch

from towline.convert import wording
from towline.core.errors import ImportRefused

_MAX_OUTPUTS = 256
_MAX_DEPTH = 8


@dataclass(frozen=True)
class Leaf:
    """`path` holds the keys and field names on the way, None where a place in a list or tuple has no name."""

    path: tuple[str | None, ...]
    value: Any


def leaves(answer: Any) -> list[Leaf]:
    """Every value in the answer that holds no others. Raises ImportRefused for what is nested too deeply."""
    found = list(_leaves(answer, (), 0))
    if len(found) > _MAX_OUTPUTS:
        raise ImportRefused(f"The model answers with {len(found)} values; at most {_MAX_OUTPUTS} are taken.", code="TOO_MANY_OUTPUTS")
    return found


def _leaves(value: Any, path: tuple[str | None, ...], depth: int) -> Iterator[Leaf]:
    if depth > _MAX_DEPTH:
        raise ImportRefused("The model's answer is nested too deeply.", code="TOO_MANY_OUTPUTS")
    for key, inner in _parts(value) or ():
        yield from _leaves(inner, (*path, key), depth + 1)
    if _parts(value) is None:
        yield Leaf(path, value)


def _parts(value: Any) -> list[tuple[str | None, Any]] | None:
    """What a container holds; None for what is none."""
    if isinstance(value, torch.Tensor | str | bytes):
        return None
    if isinstance(value, Mapping):
        return [(str(key), inner) for key, inner in value.items()]
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", None) or [None] * len(value)
        return list(zip(names, value, strict=True))
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return None


def tensor_places(found: list[Leaf]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which leaves are tensors, and notes about those that were left out. Raises ImportRefused for an answer that no response can carry."""
    kept, notes = [], []
    for place, leaf in enumerate(found):
        label = ".".join(part or str(place) for part in leaf.path) or "the answer"
        if isinstance(leaf.value, torch.Tensor):
            kept.append(place)
        elif leaf.value is None:
            notes.append(f"The output {wording.name(label)} is None and was left out.")
        elif isinstance(leaf.value, bool | int | float):
            notes.append(f"The output {wording.name(label)} is the plain number {leaf.value} and was left out.")
        else:
            raise ImportRefused(
                f"The output {wording.name(label)} of the model is a {wording.name(type(leaf.value).__name__)}, expected tensors.",
                code="UNSUPPORTED_OUTPUT",
                hint="Wrap the model in a class whose forward returns tensors, and give that class with --arch.",
            )
    if not kept:
        raise ImportRefused("The model answers with no tensor at all.", code="UNSUPPORTED_OUTPUT")
    return tuple(kept), tuple(notes)


def output_names(paths: list[tuple[str | None, ...]], taken: tuple[str, ...]) -> tuple[str, ...]:
    """Keys and fields name an output; those without any are output, output_1, … No two are equal, nor one of `taken`, the inputs."""
    names: list[str] = []
    for path in paths:
        wish = ".".join(part for part in path if part) or "output"
        name, number = wish, 1
        while name in names or name in taken:
            name = f"{wish}_{number}" if name not in taken or number > 1 else f"{wish}_out"
            number += name != f"{wish}_out"
        names.append(name)
    return tuple(names)
