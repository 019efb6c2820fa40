"""Read how a user says what a model takes, `--input`: `float32[N,3,224,224]`, or `ids=int64[N,T],mask=int64[N,T]`. Pure."""

from __future__ import annotations

import re

from towline.convert import wording
from towline.core import dtypes
from towline.core.errors import UsageError
from towline.core.manifest import TensorSpec

# The first axis of what is asked in batches, here and in every importer.
BATCH = "N"
_ONE = re.compile(r"\s*(?:(?P<name>[^=\[\],]+?)\s*=\s*)?(?P<dtype>[a-z0-9]+)\s*\[(?P<dims>[^\[\]]*)\]\s*(?:,|$)")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SIZE = re.compile(r"[0-9]{1,12}")
_HINT = "Write it as float32[N,3,224,224], where N may vary; several as ids=int64[N,T],mask=int64[N,T]."


def parse_inputs(text: str) -> tuple[TensorSpec, ...]:
    """One spec per input in the order given; the name of one that has none is empty. Raises UsageError."""
    specs: list[TensorSpec] = []
    place = 0
    while place < len(text):
        found = _ONE.match(text, place)
        if found is None:
            raise _refused(f"{wording.name(text[place:].strip())} is no input")
        specs.append(TensorSpec(found["name"] or "", _dtype(found["dtype"]), _shape(found["dims"])))
        place = found.end()
    names = [spec.name for spec in specs if spec.name]
    if not specs or len(set(names)) < len(names):
        raise _refused("an input is named twice" if specs else "nothing is given")
    return tuple(specs)


def _dtype(word: str) -> str:
    if word not in dtypes.BY_NAME:
        raise _refused(f"{wording.name(word)} is none of {', '.join(dtypes.BY_NAME)}")
    return word


def _shape(text: str) -> tuple[int | str, ...]:
    dims = [dim.strip() for dim in text.split(",")] if text.strip() else []
    return tuple(_dim(dim) for dim in dims)


def _dim(text: str) -> int | str:
    if _SIZE.fullmatch(text) and int(text) > 0:
        return int(text)
    if _SYMBOL.fullmatch(text):
        return text
    raise _refused(f"the dim {wording.name(text)} is neither a size nor a name")


def _refused(what: str) -> UsageError:
    return UsageError(f"What the model takes (--input) cannot be read: {what}.", code="BAD_INPUT_SPEC", field="input", hint=_HINT)
