"""What stands for a feature that an example lacks, as a source tells it: held to its signatures, in the form a manifest keeps. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from towline.core.manifest import DefaultValue, Signature, TensorSpec

# By signature and input, the values of one row, flat.
Defaults = Mapping[str, Mapping[str, tuple[DefaultValue, ...]]]
_MAX_VALUES = 4096
# JSON has no word for these: they are kept by name.
_NAMED = ("nan", "inf", "-inf")
_INT64_END = 1 << 63


def plain_values(values: Sequence[bytes | float]) -> tuple[DefaultValue, ...]:
    """As JSON can hold them. Raises UnicodeDecodeError for bytes that are no text."""
    return tuple(
        value.decode() if isinstance(value, bytes) else str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for value in values
    )


def held_defaults(told: Defaults, signatures: Mapping[str, Signature]) -> dict[str, dict[str, tuple[DefaultValue, ...]]]:
    """Those that fill a row of an input of their signature. Without one a feature is required, so what does not fit is left out."""
    found: dict[str, dict[str, tuple[DefaultValue, ...]]] = {}
    for name, signature in signatures.items():
        given = told.get(name, {})
        fitting = {spec.name: given[spec.name] for spec in signature.inputs if spec.name in given and _fits(given[spec.name], spec)}
        if fitting:
            found[name] = fitting
    return found


def _fits(values: Sequence[DefaultValue], spec: TensorSpec) -> bool:
    if not spec.shape or not 0 < len(values) <= _MAX_VALUES:
        return False
    sizes = [dim for dim in spec.shape[1:] if isinstance(dim, int)]
    if len(sizes) != len(spec.shape) - 1 or len(values) != math.prod(sizes):
        return False
    # The three types of a tf.Example.
    match spec.dtype:
        case "string":
            return all(isinstance(value, str) and _is_text(value) for value in values)
        case "float32":
            return all(type(value) in (int, float) or value in _NAMED for value in values)
        case "int64":
            return all(type(value) is int and -_INT64_END <= value < _INT64_END for value in values)
    return False


def _is_text(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
